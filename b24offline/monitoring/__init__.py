"""How each portal is doing, and what a person must do."""

from b24offline.monitoring.alarms import log_alarms
from b24offline.monitoring.health import LATE_SECONDS, IssueCode
from b24offline.monitoring.health_sample import HealthSample, Samples, take_samples
from b24offline.monitoring.status import PortalStatus, StoredPortals, portal_status, portal_statuses, statuses_of
from b24offline.monitoring.webhook import IssueWebhook

__all__ = [
    "LATE_SECONDS",
    "HealthSample",
    "IssueCode",
    "IssueWebhook",
    "PortalStatus",
    "Samples",
    "StoredPortals",
    "log_alarms",
    "portal_status",
    "portal_statuses",
    "statuses_of",
    "take_samples",
]
