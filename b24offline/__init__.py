"""The offline events of Bitrix24 portals, brought into Celery without losing one.

Pipelines import from `b24offline.pipeline`. This module imports no Celery.
"""

from b24offline.contract import VERSION as __version__  # noqa: N811 - as Python names it
from b24offline.errors import B24OfflineError, ConfigError, PortalError

__all__ = ["B24OfflineError", "ConfigError", "PortalError", "__version__"]
