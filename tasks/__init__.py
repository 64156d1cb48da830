"""The Celery side, thin: each task loads, makes one call into the library, and records.

Its modules are `b24offline.tasks.*`, from wherever they are imported. In a checkout, where this folder lies at the top,
``celery -A tasks`` finds the application as well.
"""

from b24offline.tasks.broker_readers import queue_readers
from b24offline.tasks.celery_app import app
from b24offline.tasks.chains import chain_of

__all__ = ["app", "chain_of", "queue_readers"]

if __name__ == "tasks":
    __path__ = []  # a task imported by a second name would be a second task
