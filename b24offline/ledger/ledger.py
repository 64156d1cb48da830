"""The ledger of one portal in Redis: open batches, runs, leases, object queues and due times.

Every transition is one atomic script in ``scripts/``; this module names them and gives their replies types. All of it
may be lost at any moment: it is rebuilt from the portal, at the price of repeats. The one clock is that of the Redis
server, in milliseconds. Drawn in ``docs/architecture.md``.

Raises ``redis.exceptions.RedisError`` when the server cannot be reached; no transition is then half done.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from b24offline import keys
from b24offline.config import DEFAULT_LANE
from b24offline.events import Event
from b24offline.ledger.batches import BatchKind, run_id
from b24offline.ledger.deployment_counters import retire_counters
from b24offline.ledger.replies import COMPLETION, OVERDUE, RUN_REFS, SETTLE, STEP_COUNTS, STEP_LEASE, RunRef
from b24offline.ledger.run_calls import RunCalls
from b24offline.ledger.schema import delete_below, pages_of
from b24offline.ledger.transitions import Transitions, clock_ms, milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis import Redis

    from b24offline.config import Timers
    from b24offline.ledger.batches import Entry
    from b24offline.ledger.replies import (
        Completion,
        DeadLettered,
        Overdue,
        SettleLease,
        StepLease,
        Unsettled,
    )
    from b24offline.ledger.transitions import Call

MAX_HELD_ATTEMPTS: Final = 8
"""Counted errors, and crashes beyond their budget, after which a retrying run is dead-lettered."""
_BATCHES_AT_ONCE: Final = 200
_ANY_SIZE: Final = 1 << 30
STEP_STRIDE: Final = 1_000_000
"""A position is step * STEP_STRIDE + repeat, so one number orders every delivery of an attempt."""


class Ledger:
    """Transitions of one portal. ``redis`` must decode responses; ``timers`` are already scaled."""

    def __init__(self, redis: Redis, key_prefix: str, portal: str, timers: Timers, *, crash_budget: int = 3) -> None:
        self.portal = portal
        self.key_prefix = key_prefix
        self.stem = keys.stem(key_prefix, portal)
        self.transitions = Transitions(redis, self.stem, portal)
        self.transition = self.transitions.run
        self.first_attempt = partial(secrets.randbits, 48)
        self._redis = redis
        self._timers = timers
        self.first_redrive_seconds = timers.redrive_backoff_seconds[0]
        self._queue_bound = milliseconds(timers.run_queue_seconds)
        self._settle_due = milliseconds(timers.settle_due_seconds)
        self._retrying_rules = json.dumps(
            {
                "budget": crash_budget,
                "attempts": MAX_HELD_ATTEMPTS,
                "waits": [milliseconds(seconds) for seconds in timers.redrive_backoff_seconds],
            }
        )
        self.calls = RunCalls(timers, self._retrying_rules)

    # -- batches

    def object_queue(self, event: Event, pipeline: str) -> str:
        """Return the key of the object queue of this object and pipeline; a record without object has its own."""
        return keys.object_queue(self.stem, event.object_name, pipeline)

    def open(
        self,
        process_id: str,
        entries: Iterable[Entry],
        *,
        kind: BatchKind,
        lane: str = DEFAULT_LANE,
        poll_token: str = "",
        first_seen_ms: int = 0,
        records_per_place: int = _ANY_SIZE,
    ) -> int | None:
        """Open a batch. Return how many runs wait for an outcome; None: open before, or lease lost.

        It counts for as many batches as it has times ``records_per_place``, rounded up, while so many are left in it.

        Nobody asks to settle a batch of failures only, as no outcome comes: it is due when they are old enough to nack.
        """
        entries = list(entries)
        only_failed = all(entry.skip == "failed" for entry in entries)
        pending: int | None = self.transition(
            "open_batch",
            process_id,
            kind,
            first_seen_ms,
            milliseconds(self._timers.dispatch_due_seconds),
            milliseconds(self._timers.nack_age_seconds) if only_failed else self._settle_due,
            poll_token,
            json.dumps([self._payload(entry) for entry in entries]),
            lane,
            self.first_attempt(),
            "batches_adopted" if first_seen_ms else f"batches_{kind}",
            records_per_place,
        )
        return pending

    def _payload(self, entry: Entry) -> dict[str, Any]:
        event = entry.event
        return {
            "id": str(event.record_id),
            "event": event.to_json(),
            "message": event.message_id,
            "nacked": event.retrying,
            "skip": entry.skip,
            "runs": [
                {"id": run_id(event, name), "pipeline": name, "object_queue": self.object_queue(event, name)}
                for name in entry.pipelines
            ],
        }

    def start(self, process_id: str) -> tuple[RunRef, ...]:
        """Hand out the runs of a batch that were never handed out."""
        return RUN_REFS.validate_json(self.transition("start_batch", process_id, self._queue_bound))

    def postpone(self, process_id: str, wait_seconds: float) -> int:
        """Keep the runs of a batch from being overdue, as it is dispatched after the wait. Return how many they are."""
        bound = milliseconds(wait_seconds + self._timers.dispatch_due_seconds)
        return int(self.transition("postpone_batch", process_id, bound))

    def begin_settle(self, process_id: str) -> SettleLease | Unsettled:
        """Take the settle lease and read the outcomes of the batch."""
        lease = milliseconds(self._timers.settle_lease_seconds)
        in_doubt = milliseconds(self._timers.all_in_doubt_seconds)
        reply = self.transition("begin_settle", process_id, secrets.token_hex(8), lease, in_doubt)
        return SETTLE.validate_json(reply)

    def end_settle(self, settling: SettleLease, done: Iterable[int], next_look_seconds: float) -> str:
        """Drop the records that are done and close an empty batch. Return "closed", "open" or "lost"."""
        ids = json.dumps([str(record) for record in done])
        wait = milliseconds(next_look_seconds)
        return str(self.transition("end_settle", settling.process_id, settling.token, wait, ids))

    def forget(self, process_id: str) -> None:
        """Drop a damaged batch; the portal's list brings its records back as orphans."""
        self.transition("forget_batch", process_id)

    # -- runs

    def begin_step(self, run: str, attempt: int, position: int) -> StepLease | None:
        """Take the lease for a step. None: finished, replaced, or a second delivery; return at once."""
        reply = self._make(self.calls.begin(RunRef(run, attempt), position))
        return None if reply is None else STEP_LEASE.validate_json(reply)

    def go_on(self, run: str, attempt: int, position: int, to: int, lease: StepLease) -> StepLease | None:
        """Pass from a running step to the next one in the same message. None: the lease was lost; stop."""
        args = (run, attempt, position, to, milliseconds(self._timers.lease_seconds))
        reply = self.transition("go_on", *args)
        if reply is None:
            return None
        counts = STEP_COUNTS.validate_json(reply)
        return replace(lease, failures=counts["failures"], step_failures=counts["step_failures"])

    def renew(self, run: str, attempt: int, position: int) -> bool:
        """Renew the lease of a running step; return False when it is lost."""
        return bool(self._make(self.calls.renew(RunRef(run, attempt), position)))

    def pass_on(self, run: str, attempt: int, position: int) -> bool:
        """End a step that is not the last: the next one waits in a queue."""
        return bool(self.transition("pass_on", run, attempt, position, self._queue_bound))

    def retry_step(self, run: str, attempt: int, delay_seconds: float, *, counted: bool, reason: str) -> bool:
        """Note that the step comes again by message after the delay; if the message is lost, the sweep runs it."""
        return bool(
            self._make(self.calls.retry_step(RunRef(run, attempt), delay_seconds, counted=counted, reason=reason))
        )

    def reschedule_run(
        self, run: str, attempt: int, delay_seconds: float | None, *, counted: bool, reason: str
    ) -> bool:
        """Let the sweep start the run again from its first step after the delay.

        None: a retrying run, and the delay grows with its failures.
        """
        return bool(
            self._make(self.calls.reschedule(RunRef(run, attempt), delay_seconds, counted=counted, reason=reason))
        )

    def exhaust(self, run: str, attempt: int, *, reason: str) -> bool:
        """Use up the attempts of a retrying run whose failure is certain to come again: the sweep dead-letters it."""
        return bool(self._make(self.calls.exhaust(RunRef(run, attempt), reason=reason)))

    def succeed(self, run: str, attempt: int) -> Completion:
        """Record success; a second call, or one of a replaced attempt, changes nothing."""
        return COMPLETION.validate_json(self._make(self.calls.succeed(RunRef(run, attempt))))

    def fail(self, run: str, attempt: int, reason: str, *, backoff_seconds: float) -> Completion:
        """Record failure; the object's next run waits out the backoff."""
        call = self.calls.fail(RunRef(run, attempt), reason, backoff_seconds=backoff_seconds)
        return COMPLETION.validate_json(self._make(call))

    def crash(self, run: str, attempt: int, *, backoff_seconds: float) -> Completion:
        """Count a crash of this attempt: the run starts again after the backoff, or failed when the budget is spent."""
        call = self.calls.crash(RunRef(run, attempt), backoff_seconds=backoff_seconds)
        return COMPLETION.validate_json(self._make(call))

    def _make(self, call: Call) -> Any:
        return self.transition(call.script, *call.args)

    def dead_letter(self, run: str, attempt: int) -> DeadLettered:
        """Dead-letter a retrying run that the sweep replied as exhausted, after its dead letter was written."""
        rest = milliseconds(self._timers.redrive_backoff_seconds[-1])
        reply: DeadLettered = self.transition("dead_letter_run", run, attempt, rest)
        return reply

    def redrive(self, run: str, *, delay_seconds: float) -> str:
        """Let a run that has yielded its slot start again. Return "redriven", another state of it, or "unknown"."""
        return str(self.transition("redrive_run", run, round(delay_seconds * 1000), self._settle_due))

    def drop(self, run: str, *, reason: str) -> str:
        """End a run that has yielded its slot as a success. Return "dropped", another state of it, or "unknown"."""
        return str(self.transition("drop_run", run, reason))

    def take_overdue(self, limit: int = 200) -> Overdue:
        """Take what is overdue, once: each entry gets a new due time before it is replied."""
        age = milliseconds(self._timers.dead_letter_after_seconds)
        args = (self._queue_bound, self._settle_due, limit, self._retrying_rules, age)
        overdue = OVERDUE.validate_json(self.transition("take_overdue", *args))
        if overdue.lost:
            self._find_open_batches()
        return overdue

    def hasten_runs(self, *, idle: bool, limit: int = 200) -> int:
        """Make runs overdue whose message was lost. Return how many. ``idle``: no message waits in any queue of steps.

        Without that, only those count as lost that were overtaken by a run of their lane. Not for steps of others'
        queues, which take no part in either.
        """
        age = milliseconds(3 * self._timers.sweep_seconds)
        return int(self.transition("hasten_runs", self._queue_bound, age, int(idle), limit))

    def _find_open_batches(self) -> None:
        """Put every batch back into what tells of them, after the loss of one of these keys."""
        begin = keys.batch(self.stem, "")
        names = self._redis.scan_iter(keys.pattern(begin.removesuffix(":")), count=1000)
        found = (str(name).removeprefix(begin) for name in names if not str(name).endswith(":records"))
        for page in pages_of(found, _BATCHES_AT_ONCE):
            self.transition("index_batches", json.dumps(page))
        self.transition("index_batches", "[]")

    def synthetic_ids(self, count: int) -> int:
        """Return the first of so many new numbers for events without a record, each greater than all before it."""
        return int(self.transition("synthetic_ids", count))

    # -- what is there, for looking and never for deciding

    def open_batches(self) -> dict[str, int]:
        """Return process id -> when it was opened, in milliseconds."""
        rows: Any = self._redis.zrange(keys.batches(self.stem), 0, -1, withscores=True)
        return {str(process_id): int(opened) for process_id, opened in rows}

    def working_batches(self) -> dict[str, int]:
        """As `open_batches`, without those that wait for a person only."""
        opened = self.open_batches()
        with self._redis.pipeline(transaction=False) as pipe:
            for process_id in opened:
                pipe.hget(keys.batch(self.stem, process_id), "kind")
            kinds = pipe.execute()
        return {pid: opened[pid] for pid, kind in zip(opened, kinds, strict=True) if kind != BatchKind.DEAD_LETTERED}

    def open_count(self, kind: BatchKind) -> int:
        """Return how many batches of a kind that has a gate of its own are open."""
        return int(self._redis.hget(keys.open_counts(self.stem), kind) or 0)

    def opened_ms(self, process_id: str) -> int:
        """Return when a batch was opened, on the ledger's clock; 0 when it is not open."""
        return int(self._redis.hget(keys.batch(self.stem, process_id), "opened") or 0)

    def events(self, process_id: str) -> dict[int, Event]:
        """Return record id -> event, of what is left of a batch."""
        rows = self._redis.hgetall(keys.records(self.stem, process_id))
        return {int(key): Event.from_json(json.loads(text)["event"]) for key, text in rows.items()}

    def lane(self, process_id: str) -> str:
        """Return the lane a batch was reserved for."""
        return str(self._redis.hget(keys.batch(self.stem, process_id), "lane") or DEFAULT_LANE)

    def kind(self, process_id: str) -> BatchKind | None:
        """Return why a batch is open, or None when it is not."""
        kind = self._redis.hget(keys.batch(self.stem, process_id), "kind")
        return BatchKind(str(kind)) if kind else None

    def event_of(self, run: str) -> tuple[Event, str] | None:
        """Return the event a run works for and the lane it came by, or None when the run is closed."""
        batches, record = self._redis.hmget(keys.run(self.stem, run), "batches", "record")
        # The last batch first: of a record that was nacked and is retrying by now, it has the nacked event.
        for process_id in reversed(str(batches or "").split(",")):
            text = self._redis.hget(keys.records(self.stem, process_id), str(record or ""))
            if text:
                return Event.from_json(json.loads(text)["event"]), self.lane(process_id)
        return None

    def run_fields(self, run: str, *names: str) -> tuple[str, ...]:
        """Return fields of a run's hash, ``""`` where there is none."""
        return tuple(str(value or "") for value in self._redis.hmget(keys.run(self.stem, run), list(names)))

    def count(self, counter: str, by: int = 1) -> None:
        """Add to one of the portal's counters."""
        self._redis.hincrby(keys.stats(self.stem), counter, by)

    def count_acknowledged(self, settling: SettleLease, records: int, *, superseded: int) -> None:
        """Count records of a batch that were acknowledged, and for how long they had been reserved."""
        self.transition("count_acknowledged", settling.first_seen_ms, records, superseded)

    def counters(self) -> dict[str, int]:
        """Return the portal's counters since the ledger began."""
        return {str(name): int(value) for name, value in self._redis.hgetall(keys.stats(self.stem)).items()}

    def now_ms(self) -> int:
        """Return the ledger's clock: milliseconds of the Redis server."""
        return clock_ms(self._redis)

    def erase(self) -> int:
        """Delete everything that is known of the portal, as when it is removed. Return how many keys that were.

        Messages that are still on their way then find nothing to do.
        """
        retire_counters(self._redis, self.key_prefix, self.stem)
        return delete_below(self._redis, self.stem)
