"""Brings the offline events of Bitrix24 portals into Celery, without losing one.

A module of pipelines imports what it needs from `b24offline.pipeline`. Nothing here imports Celery.
"""

from b24offline.contract import VERSION as __version__  # noqa: N811 - as Python names it
from b24offline.errors import B24OfflineError, ConfigError, PortalError
from b24offline.events import Event, ObjectKey

__all__ = ["B24OfflineError", "ConfigError", "Event", "ObjectKey", "PortalError", "__version__"]
