"""What Redis holds of each portal: open batches, runs, leases, due times. All of it may be lost."""

from b24offline.ledger.batch_kinds import SYNTHETIC_PREFIX, BatchKind, is_synthetic
from b24offline.ledger.fencing import Fencing, PollLease, PollRefused
from b24offline.ledger.inspect import PLACES, Waiting, error_lane
from b24offline.ledger.job_queue import RECONCILE, RUN, Body, JobQueue
from b24offline.ledger.lease_renewer import LeaseRenewer
from b24offline.ledger.ledger import STEP_STRIDE, Entry, Ledger, run_id
from b24offline.ledger.notes import note_refused, noted_refused, noted_unreadable
from b24offline.ledger.object_cache import ObjectCache, Snapshot
from b24offline.ledger.open_work import with_open_work
from b24offline.ledger.reconciled import Reconciled, last_reconciled, save_reconciled
from b24offline.ledger.replies import Completion, Outcome, Overdue, RunRef, SettleLease, StepLease
from b24offline.ledger.schedule import LaneSchedule, PollSchedule, next_interval_seconds
from b24offline.ledger.schema import LedgerSchemaMismatch, other_schema

__all__ = [
    "PLACES",
    "RECONCILE",
    "RUN",
    "STEP_STRIDE",
    "SYNTHETIC_PREFIX",
    "BatchKind",
    "Body",
    "Completion",
    "Entry",
    "Fencing",
    "JobQueue",
    "LaneSchedule",
    "LeaseRenewer",
    "Ledger",
    "LedgerSchemaMismatch",
    "ObjectCache",
    "Outcome",
    "Overdue",
    "PollLease",
    "PollRefused",
    "PollSchedule",
    "Reconciled",
    "RunRef",
    "SettleLease",
    "Snapshot",
    "StepLease",
    "Waiting",
    "error_lane",
    "is_synthetic",
    "last_reconciled",
    "next_interval_seconds",
    "note_refused",
    "noted_refused",
    "noted_unreadable",
    "other_schema",
    "run_id",
    "save_reconciled",
    "with_open_work",
]
