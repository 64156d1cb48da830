"""Changes that no record tells of: found by comparing the portal with the mirror, and run."""

from b24offline.reconciliation.history import Reconciled, last_reconciled, since_ms, summary
from b24offline.reconciliation.reconciler import Job, Reconciler
from b24offline.reconciliation.run_requests import RunRequests
from b24offline.reconciliation.schedule import BY_HAND, HOUR_MS, RECONCILE, RUN, ReconcileSchedule
from b24offline.reconciliation.synthetic import Injector, object_key
from b24offline.reconciliation.turns import ReconcileTurns

__all__ = [
    "BY_HAND",
    "HOUR_MS",
    "RECONCILE",
    "RUN",
    "Injector",
    "Job",
    "ReconcileSchedule",
    "ReconcileTurns",
    "Reconciled",
    "Reconciler",
    "RunRequests",
    "last_reconciled",
    "object_key",
    "since_ms",
    "summary",
]
