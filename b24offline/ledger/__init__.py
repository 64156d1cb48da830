"""What Redis holds of each portal: open batches, runs, leases, due times. All of it may be lost."""

from b24offline.ledger.batches import SYNTHETIC_PREFIX, BatchKind, Entry, is_synthetic, run_id
from b24offline.ledger.chunk import ChunkEnded, ChunkLedger
from b24offline.ledger.deployment_counters import deployment_counters
from b24offline.ledger.fencing import MAX_RETRYING_RECORDS, Fencing
from b24offline.ledger.glance import Glance, Look, expect_orphans, glances, look_soon, note_visit
from b24offline.ledger.inspect import PLACES, Unfinished, Waiting, error_lane, unfinished
from b24offline.ledger.job_queue import RECONCILE, RUN, Body, JobQueue
from b24offline.ledger.lease_renewer import LeaseRenewer, StepLimits
from b24offline.ledger.ledger import MAX_HELD_ATTEMPTS, STEP_STRIDE, Ledger
from b24offline.ledger.nacked_records import forget_nacked, hurry_nacked, note_failures
from b24offline.ledger.notes import (
    BROKER_TTL_SECONDS,
    MEMORY_SHARE,
    memory_share,
    note_broker,
    note_oversized,
    note_refused,
    note_refused_message,
    note_unreadable,
    noted_broker,
    noted_oversized,
    noted_refused_messages,
)
from b24offline.ledger.object_cache import ObjectCache, Snapshot
from b24offline.ledger.orphans import Orphan, Orphans
from b24offline.ledger.queued import QueuedMessages, QueuedTask, queued_tasks
from b24offline.ledger.readings import OpenBatch, Reading, read_portals
from b24offline.ledger.reconciled import Reconciled, last_reconciled, save_reconciled
from b24offline.ledger.replies import (
    Completion,
    DeadLettered,
    Outcome,
    Overdue,
    PollLease,
    PollRefused,
    RunRef,
    SettleLease,
    StepLease,
)
from b24offline.ledger.run_calls import RunCalls
from b24offline.ledger.schedule import LaneSchedule, PollSchedule, Signals, next_interval_seconds
from b24offline.ledger.schema import LedgerSchemaMismatch, other_schema, reset_ledgers
from b24offline.ledger.server import connect
from b24offline.ledger.transitions import Call

__all__ = [
    "BROKER_TTL_SECONDS",
    "MAX_HELD_ATTEMPTS",
    "MAX_RETRYING_RECORDS",
    "MEMORY_SHARE",
    "PLACES",
    "RECONCILE",
    "RUN",
    "STEP_STRIDE",
    "SYNTHETIC_PREFIX",
    "BatchKind",
    "Body",
    "Call",
    "ChunkEnded",
    "ChunkLedger",
    "Completion",
    "DeadLettered",
    "Entry",
    "Fencing",
    "Glance",
    "JobQueue",
    "LaneSchedule",
    "LeaseRenewer",
    "Ledger",
    "LedgerSchemaMismatch",
    "Look",
    "ObjectCache",
    "OpenBatch",
    "Orphan",
    "Orphans",
    "Outcome",
    "Overdue",
    "PollLease",
    "PollRefused",
    "PollSchedule",
    "QueuedMessages",
    "QueuedTask",
    "Reading",
    "Reconciled",
    "RunCalls",
    "RunRef",
    "SettleLease",
    "Signals",
    "Snapshot",
    "StepLease",
    "StepLimits",
    "Unfinished",
    "Waiting",
    "connect",
    "deployment_counters",
    "error_lane",
    "expect_orphans",
    "forget_nacked",
    "glances",
    "hurry_nacked",
    "is_synthetic",
    "last_reconciled",
    "look_soon",
    "memory_share",
    "next_interval_seconds",
    "note_broker",
    "note_failures",
    "note_oversized",
    "note_refused",
    "note_refused_message",
    "note_unreadable",
    "note_visit",
    "noted_broker",
    "noted_oversized",
    "noted_refused_messages",
    "other_schema",
    "queued_tasks",
    "read_portals",
    "reset_ledgers",
    "run_id",
    "save_reconciled",
    "unfinished",
]
