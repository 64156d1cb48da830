"""What the model of the protocol is made of: one message of one portal, its bounds, and the rules as switches.

Time is whole ticks. Every age is a countdown, so states that differ only in how long ago something ended are one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

FREE: Final = 0
"""The process id of a free record."""
RUNNING: Final = frozenset({"fresh", "stale"})
"""States of a run that is not final."""


Label = tuple[object, ...]
"""What happened, for a line of a history: a verb and its objects."""


class Record(NamedTuple):
    """A record in the portal's queue. `stamp` moves with a repeat; `id` grows."""

    id: int
    process: int
    nacked: bool
    stamp: int


class Run(NamedTuple):
    """The run of one delivery (record, stamp) through one pipeline; one for all batches that hold the delivery."""

    record: int
    stamp: int
    pipeline: int  # 0: the only one
    state: str  # fresh (running, began after the last change), stale (running, began before it), done, failed
    nacked: bool
    attempt: int


class Batch(NamedTuple):
    """An open batch with its one record of the message. `young`: ticks until it may be nacked."""

    process: int
    record: int
    stamp: int
    young: int
    lease: int


class Look(NamedTuple):
    """What two lists showed as reserved and unknown, to be adopted at once. `left`: ticks of the poll lease."""

    process: int
    record: int
    stamp: int
    nacked: bool
    left: int


class Settler(NamedTuple):
    """A process that settles. `stage`: look (live was seen), supersede, nack, or clear (nothing left to look at)."""

    process: int
    record: int
    stage: str


class Call(NamedTuple):
    """A request on the network. `life`: for how many ticks the portal may still execute it; `owner`: somebody waits.

    A reserving call has stages: sent (get, get-nacked), picked (its rows are chosen, not yet written), answered.
    """

    kind: str
    process: int
    record: int
    stamp: int
    life: int
    owner: bool


class Straggler(NamedTuple):
    """A handler that still runs although its attempt was replaced or the ledger forgot it."""

    record: int
    stamp: int
    pipeline: int
    attempt: int
    fresh: bool


Key = tuple[int, int, int, bool]
"""An idempotency key: record, stamp, pipeline, whether the record was nacked."""


class State(NamedTuple):
    """Everything about one message id. `uncovered`: pipelines that completed no run begun after the last change.

    `epoch`: ticks until what an unanswered call reserved may be adopted at once.
    `written`, where the target deduplicates: key -> whether what it took under it is of after the last change.
    """

    records: tuple[Record, ...]
    uncovered: tuple[int, ...]
    runs: tuple[Run, ...]
    batches: tuple[Batch, ...]
    poll: int
    in_doubt: int
    recovery: int
    epoch: int
    looks: tuple[Look, ...]
    orphans: tuple[tuple[int, int], ...]
    lane: tuple[tuple[int, int], ...]
    settlers: tuple[Settler, ...]
    calls: tuple[Call, ...]
    stragglers: tuple[Straggler, ...]
    written: tuple[tuple[Key, bool], ...]
    changes: int
    repeats: int
    losses: int
    freezes: int
    pauses: int
    wrong: str


@dataclass(frozen=True)
class Bounds:
    """Ticks, in the order of the protocol's timers, and how often each fault may strike.

    `life`: a request is executed at most so long after it was sent. `choosing`: between the choice of rows and their
    reservation. `reserving`: like `life`, for reserving calls, which by default outlive the poll lease, too.
    `in_flight`: calls on the network at once. `linger`: a batch that its record has left may stay open; see `reduced`.
    `late_looks`: what is adopted at once may be written until a poll lease after it was listed.
    `deduplicates`: what is written to takes the first write under an idempotency key, and drops all others.
    """

    life: int = 1
    reserving: int = 1
    choosing: int = 0
    nack_age: int = 1
    poll_lease: int = 1
    recovery: int = 1
    settle_lease: int = 1
    in_doubt: int = 2
    sighting: int = 2
    redrive_wait: int = 3
    changes: int = 2
    repeats: int = 1
    losses: int = 1
    freezes: int = 0
    pauses: int = 0
    in_flight: int = 2
    polls: int = 2
    linger: bool = False
    pipelines: int = 1
    deduplicates: bool = False
    late_looks: bool = False

    @property
    def names(self) -> tuple[int, ...]:
        """The pipelines of each delivery."""
        return (0,) if self.pipelines == 1 else tuple(range(1, self.pipelines + 1))


@dataclass(frozen=True)
class Rules:
    """The protocol's rules. All on is the protocol; a test switches them off one by one, or some together."""

    explicit_keep: bool = True
    process_scope: bool = True
    ids_given: bool = True
    look_live: bool = True
    look_newer: bool = True
    newer_is_greater: bool = True
    nack_age: bool = True
    in_doubt_settle: bool = True
    in_doubt_redrive: bool = True
    redrive_wait: bool = True
    in_doubt_superseded: bool = True
    in_doubt_adoption: bool = True
    two_sightings: bool = True
    epoch_age: bool = True
    fresh_at_once: bool = True
    two_lists: bool = True
    recovery_pause: bool = True
    poll_lease: bool = True
    settle_lease: bool = True
    lease_to_clear: bool = True
    nacked_once: bool = True
    retrying_never_fails: bool = True
    close_when_finished: bool = True
    adoption: bool = True
    error_lane: bool = True
    unique_attempts: bool = True
    own_run_when_retrying: bool = True
    all_runs_when_retrying: bool = True
    numbers_of_all_runs: bool = True
    key_of_nacked: bool = True


def initial(bounds: Bounds) -> State:
    """Nothing queued, nothing known, everything covered."""
    return State(
        records=(),
        uncovered=(),
        runs=(),
        batches=(),
        poll=0,
        in_doubt=0,
        recovery=0,
        epoch=0,
        looks=(),
        orphans=(),
        lane=(),
        settlers=(),
        calls=(),
        stragglers=(),
        written=(),
        changes=bounds.changes,
        repeats=bounds.repeats,
        losses=bounds.losses,
        freezes=bounds.freezes,
        pauses=bounds.pauses,
        wrong="",
    )


def new_process(state: State) -> int:
    """Return the smallest process id that nothing refers to: states that differ only in old names are one."""
    used = {record.process for record in state.records}
    used.update(batch.process for batch in state.batches)
    used.update(call.process for call in state.calls)
    used.update(settler.process for settler in state.settlers)
    used.update(process for process, _ in state.orphans)
    used.update(look.process for look in state.looks)
    number = 1
    while number in used:
        number += 1
    return number


def new_record(state: State) -> int:
    """Return the smallest id that is greater than every one that something refers to."""
    used = [record.id for record in state.records]
    used += [run.record for run in state.runs]
    used += [batch.record for batch in state.batches]
    used += [call.record for call in state.calls]
    used += [settler.record for settler in state.settlers]
    used += [look.record for look in state.looks]
    used += [straggler.record for straggler in state.stragglers]
    used += [key[0] for key, _ in state.written]
    return max(used, default=0) + 1


def new_stamp(state: State, record: Record) -> int:
    """Return the stamp after a repeat: the smallest that no delivery of this record has."""
    used = {run.stamp for run in state.runs if run.record == record.id}
    used.update(batch.stamp for batch in state.batches if batch.record == record.id)
    used.update(straggler.stamp for straggler in state.stragglers if straggler.record == record.id)
    used.update(call.stamp for call in state.calls if call.record == record.id)
    used.update(look.stamp for look in state.looks if look.record == record.id)
    used.update(key[1] for key, _ in state.written if key[0] == record.id)
    number = 0
    while number in used:
        number += 1
    return number


def record_of(state: State, number: int) -> Record | None:
    """Return the record with this id, if the queue has it."""
    for record in state.records:
        if record.id == number:
            return record
    return None


def run_of(state: State, record: int, stamp: int, pipeline: int) -> Run | None:
    """Return the run of a delivery through this pipeline, if the ledger has it."""
    for run in state.runs:
        if run.record == record and run.stamp == stamp and run.pipeline == pipeline:
            return run
    return None


def outcome_of(state: State, record: int, stamp: int) -> str:
    """Of all runs of a delivery: unfinished while one is, failed if one failed, else done; empty without runs."""
    outcome = ""
    for run in state.runs:
        if run.record == record and run.stamp == stamp:
            if run.state in RUNNING:
                return "unfinished"
            outcome = run.state if outcome != "failed" else outcome
    return outcome


Move = tuple[Label, State]
"""Something that may happen, and the state after it."""
