"""Where ``celery -A b24offline`` finds the application."""

from b24offline.tasks.celery_app import app

__all__ = ["app"]
