"""Changes that no record tells of: found by comparing the portal with the mirror, and run."""

from b24offline.reconciliation.reconciler import Job, Reconciler
from b24offline.reconciliation.run_requests import RunRequests
from b24offline.reconciliation.schedule import BY_HAND, ReconcileSchedule
from b24offline.reconciliation.synthetic import SyntheticBatches, object_key
from b24offline.reconciliation.turns import ReconcileTurns

__all__ = [
    "BY_HAND",
    "Job",
    "ReconcileSchedule",
    "ReconcileTurns",
    "Reconciler",
    "RunRequests",
    "SyntheticBatches",
    "object_key",
]
