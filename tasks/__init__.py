"""The Celery side, thin: each task loads, makes one call into the library, and records.

Run it as ``celery -A tasks worker`` and ``celery -A tasks beat`` from the folder that holds it.
"""

from tasks.celery_app import app

__all__ = ["app"]
