from b24offline.ledger.batch_kinds import LOCAL_PREFIX, BatchKind, is_local
from b24offline.ledger.fencing import PollLease, PollRefused, PortalGuard
from b24offline.ledger.inspect import PLACES, Waiting, error_lane
from b24offline.ledger.job_queue import Body, RequestBox
from b24offline.ledger.lease_renewer import LeaseKeeper
from b24offline.ledger.ledger import STEP_STRIDE, Entry, Ledger, run_id
from b24offline.ledger.notes import note_refused, noted_refused, noted_unreadable
from b24offline.ledger.object_cache import Snapshot, Snapshots
from b24offline.ledger.open_work import with_open_work
from b24offline.ledger.replies import Begun, Concluded, Handed, Outcome, Overdue, Settling
from b24offline.ledger.schedule import LaneSchedule, PollSchedule, next_interval_seconds
from b24offline.ledger.schema import LedgerSchemaMismatch, other_schema

__all__ = [
    "LOCAL_PREFIX",
    "PLACES",
    "STEP_STRIDE",
    "BatchKind",
    "Begun",
    "Body",
    "Concluded",
    "Entry",
    "Handed",
    "LaneSchedule",
    "LeaseKeeper",
    "Ledger",
    "LedgerSchemaMismatch",
    "Outcome",
    "Overdue",
    "PollLease",
    "PollRefused",
    "PollSchedule",
    "PortalGuard",
    "RequestBox",
    "Settling",
    "Snapshot",
    "Snapshots",
    "Waiting",
    "error_lane",
    "is_local",
    "next_interval_seconds",
    "note_refused",
    "noted_refused",
    "noted_unreadable",
    "other_schema",
    "run_id",
    "with_open_work",
]
