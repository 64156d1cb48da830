from b24offline.monitoring.alarms import tell_all
from b24offline.monitoring.health import LATE_SECONDS, IssueCode
from b24offline.monitoring.health_sample import HealthSample
from b24offline.monitoring.status import Overview, overview, overviews

__all__ = [
    "LATE_SECONDS",
    "HealthSample",
    "IssueCode",
    "Overview",
    "overview",
    "overviews",
    "tell_all",
]
