"""The ledger of one portal in Redis: open batches, runs, leases, object queues and due times.

Every transition is one atomic script in ``scripts/``; this module only names them and gives their answers types. All of
it may be lost at any moment: it is rebuilt from the portal, at the price of repeats. The one clock is that of the Redis
server, in milliseconds. Drawn in ``docs/architecture.md``.

Raises ``redis.exceptions.RedisError`` when the server cannot be reached; no transition is then half done.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Literal

from redis.exceptions import ResponseError

from b24offline import contract, keys
from b24offline.config import DEFAULT_LANE
from b24offline.events import Event
from b24offline.ledger.batch_kinds import BatchKind
from b24offline.ledger.replies import BEGUN, CONCLUDED, HANDED, OPENED, OVERDUE, SETTLE, SettleLease
from b24offline.ledger.schema import LedgerSchemaMismatch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis import Redis
    from redis.commands.core import Script

    from b24offline.config import Timers
    from b24offline.ledger.replies import Completion, Outcome, Overdue, RunRef, StepLease

MAX_HELD_ATTEMPTS: Final = 8
"""Counted errors, and crashes beyond their budget, after which a retrying run is dead-lettered."""
_OTHER_SCHEMA: Final = re.compile(r"LEDGERSCHEMA (\S+)")
STEP_STRIDE = 1_000_000
"""A position is step * STEP_STRIDE + repeat, so one number orders every delivery of an attempt."""


@cache
def _script_text(name: str) -> str:
    folder = files("b24offline.ledger") / "scripts"
    return (folder / "prelude.lua").read_text("utf-8") + (folder / f"{name}.lua").read_text("utf-8")


@cache
def _for_schema(text: str, schema: int) -> str:
    # Kept once: texts of its own for each of ten thousand portals would take a worker two gigabytes.
    return f"local SCHEMA = {schema}\n{text}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One record as it goes into a batch: its event and the pipelines that run for it.

    ``skip`` is the outcome of a record without a pipeline: "succeeded" (acknowledge) or "failed" (report); else "".
    """

    event: Event
    pipelines: tuple[str, ...] = ()
    skip: Literal["", "succeeded", "failed"] = ""


def run_id(event: Event, pipeline: str) -> str:
    """Return the run of one pipeline for one delivery of a record: ``123@1775203200/deal_changed``."""
    return f"{event.delivery}/{pipeline}"


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


class Ledger:
    """Transitions of one portal. ``redis`` must decode responses; ``timers`` are already scaled."""

    def __init__(self, redis: Redis, key_prefix: str, portal: str, timers: Timers, *, crash_budget: int = 3) -> None:
        self.portal = portal
        self.stem = keys.stem(key_prefix, portal)
        self._redis = redis
        self._timers = timers
        self._crash_budget = crash_budget
        self._scripts: dict[str, Script] = {}
        self.schema: int = contract.LEDGER_SCHEMA
        self.first_attempt = partial(secrets.randbits, 48)

    def transition(self, script: str, *args: str | float) -> Any:
        """Run one atomic script with this portal's key stem; shapes are in the head of each script.

        Raises LedgerSchemaMismatch, nothing changed, when another version keeps this portal's ledger.
        """
        if script not in self._scripts:
            self._scripts[script] = self._redis.register_script(_for_schema(_script_text(script), self.schema))
        try:
            return self._scripts[script](keys=[self.stem], args=list(args))
        except ResponseError as error:
            if other := _OTHER_SCHEMA.match(str(error)):
                raise LedgerSchemaMismatch(self.portal, other[1], self.schema) from None
            raise

    def object_queue(self, event: Event, pipeline: str) -> str:
        """Return the key of the object queue that serialises this object and pipeline; a record without object has its
        own."""
        return keys.object_queue(self.stem, event, pipeline)

    def open(
        self,
        process_id: str,
        entries: Iterable[Entry],
        *,
        kind: BatchKind,
        lane: str = DEFAULT_LANE,
        poll_token: str = "",
        first_seen_ms: int = 0,
    ) -> int | None:
        """Open a batch. Return how many runs wait for an outcome; None: open before, or lease lost.

        Nothing asks for a batch to be settled that has nothing but failures from the beginning: it is due when those
        are old enough to be nacked.
        """
        entries = list(entries)
        only_failed = all(entry.skip == "failed" for entry in entries)
        payload = [
            {
                "id": str(entry.event.record_id),
                "event": entry.event.to_json(),
                "message": entry.event.message_id,
                "nacked": entry.event.retrying,
                "skip": entry.skip,
                "runs": [
                    {"id": run_id(entry.event, p), "pipeline": p, "object_queue": self.object_queue(entry.event, p)}
                    for p in entry.pipelines
                ],
            }
            for entry in entries
        ]
        reply = self.transition(
            "open_batch",
            process_id,
            kind,
            first_seen_ms,
            _milliseconds(self._timers.dispatch_due_seconds),
            _milliseconds(self._timers.nack_age_seconds if only_failed else self._timers.settle_due_seconds),
            poll_token,
            json.dumps(payload),
            lane,
            self.first_attempt(),
            "batches_adopted" if first_seen_ms else f"batches_{kind}",
        )
        opened = OPENED.validate_json(reply)
        return opened.pending if opened.state == "opened" else None

    def start(self, process_id: str) -> tuple[RunRef, ...]:
        """Hand out the runs of a batch that nobody handed out yet."""
        bound = _milliseconds(self._timers.run_queue_seconds)
        return HANDED.validate_json(self.transition("start_batch", process_id, bound))

    def postpone(self, process_id: str, wait_seconds: float) -> int:
        """Return the dispatch of a batch comes again after the wait; until then its runs are not overdue. Return how
        many."""
        bound = _milliseconds(wait_seconds + self._timers.dispatch_due_seconds)
        return int(self.transition("postpone_batch", process_id, bound))

    def opened_ms(self, process_id: str) -> int:
        """Return when a batch was opened, on the ledger's clock; 0 when it is not open."""
        return int(self._redis.hget(keys.batch(self.stem, process_id), "opened") or 0)

    def forget(self, process_id: str) -> None:
        """Drop a damaged batch; the portal's list brings its records back as orphans."""
        self.transition("forget_batch", process_id)

    def open_batches(self) -> dict[str, int]:
        """Process id -> when it was opened, in milliseconds."""
        rows: Any = self._redis.zrange(keys.batches(self.stem), 0, -1, withscores=True)
        return {str(pid): int(opened) for pid, opened in rows}

    def working_batches(self) -> dict[str, int]:
        """As `open_batches`, without those that wait for a person only."""
        opened = self.open_batches()
        with self._redis.pipeline(transaction=False) as pipe:
            for process_id in opened:
                pipe.hget(keys.batch(self.stem, process_id), "kind")
            kinds = pipe.execute()
        return {pid: opened[pid] for pid, kind in zip(opened, kinds, strict=True) if kind != BatchKind.DEAD_LETTERED}

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
        # The last batch first: of a record that was nacked and is held by now, it has the nacked event.
        for process_id in reversed(str(batches or "").split(",")):
            text = self._redis.hget(keys.records(self.stem, process_id), str(record or ""))
            if text:
                return Event.from_json(json.loads(text)["event"]), self.lane(process_id)
        return None

    def run_fields(self, run: str, *names: str) -> tuple[str, ...]:
        """Fields of a run's hash, ``""`` where there is none; for looking, never for deciding."""
        return tuple(str(value or "") for value in self._redis.hmget(keys.run(self.stem, run), list(names)))

    def begin_step(self, run: str, attempt: int, position: int) -> StepLease | None:
        """Take the lease for a step. None: finished, replaced, or a second delivery; return at once."""
        reply = self.transition("begin_step", run, attempt, position, _milliseconds(self._timers.lease_seconds))
        return None if reply is None else BEGUN.validate_json(reply)

    def renew(self, run: str, attempt: int, position: int) -> bool:
        """Renew the lease of a running step; False when it is not ours any more."""
        seconds = self._timers.lease_seconds
        return bool(self.transition("renew_lease", run, attempt, position, _milliseconds(seconds)))

    def pass_on(self, run: str, attempt: int, position: int) -> bool:
        """End a step that is not the last: the next one waits in a queue."""
        seconds = self._timers.run_queue_seconds
        return bool(self.transition("pass_on", run, attempt, position, _milliseconds(seconds)))

    def retry_step(self, run: str, attempt: int, delay_seconds: float, *, counted: bool, reason: str) -> bool:
        """Note that the step comes again by message after the delay; the ledger only guards that it does."""
        delay, bound = _milliseconds(delay_seconds), _milliseconds(self._timers.run_queue_seconds)
        return bool(self.transition("retry_step", run, attempt, delay, bound, int(counted), reason))

    def reschedule_run(self, run: str, attempt: int, delay_seconds: float, *, counted: bool, reason: str) -> bool:
        """Let the sweep start the run again from its first step after the delay."""
        delay = _milliseconds(delay_seconds)
        return bool(self.transition("reschedule_run", run, attempt, delay, int(counted), reason, self._retrying_rules))

    def back_off(self, run: str, attempt: int, *, reason: str) -> bool:
        """Let a retrying run that failed start again later; how much later grows with its failures."""
        return bool(self.transition("back_off", run, attempt, reason, self._retrying_rules))

    def exhaust(self, run: str, attempt: int, *, reason: str) -> bool:
        """Use up all chances of a retrying run that failed in a way that comes again for certain: the sweep
        dead-letters it."""
        return bool(self.transition("exhaust", run, attempt, reason, self._retrying_rules))

    @property
    def _retrying_rules(self) -> str:
        """What the scripts know of retrying runs: crash budget, chances, and waits in milliseconds by what is used
        up."""
        waits = [_milliseconds(seconds) for seconds in self._timers.redrive_backoff_seconds]
        return json.dumps({"budget": self._crash_budget, "attempts": MAX_HELD_ATTEMPTS, "waits": waits})

    def succeed(self, run: str, attempt: int) -> Completion:
        """Record success; a second call, or one of a replaced attempt, changes nothing."""
        return self._finish(run, attempt, "succeeded", "", 0)

    def fail(self, run: str, attempt: int, reason: str, *, backoff_seconds: float) -> Completion:
        """Record failure; the object's next run waits out the backoff."""
        return self._finish(run, attempt, "failed", reason, _milliseconds(backoff_seconds))

    def _finish(self, run: str, attempt: int, outcome: Outcome, reason: str, backoff: int) -> Completion:
        bound = _milliseconds(self._timers.run_queue_seconds)
        due = _milliseconds(self._timers.settle_due_seconds)
        return CONCLUDED.validate_json(
            self.transition("finish_run", run, attempt, outcome, reason, bound, due, backoff)
        )

    def crash(self, run: str, attempt: int, *, backoff_seconds: float) -> Completion:
        """Count a crash of this attempt: again after the backoff, or failed when the budget is spent."""
        bound = _milliseconds(self._timers.run_queue_seconds)
        due = _milliseconds(self._timers.settle_due_seconds)
        backoff = _milliseconds(backoff_seconds)
        return CONCLUDED.validate_json(
            self.transition("crash_run", run, attempt, backoff, bound, due, self._retrying_rules)
        )

    def take_overdue(self, limit: int = 200) -> Overdue:
        """Take what is overdue, once: each entry gets a new due time before it is answered."""
        bound = _milliseconds(self._timers.run_queue_seconds)
        due = _milliseconds(self._timers.settle_due_seconds)
        age = _milliseconds(self._timers.dead_letter_after_seconds)
        return OVERDUE.validate_json(self.transition("take_overdue", bound, due, limit, self._retrying_rules, age))

    def begin_settle(self, process_id: str) -> SettleLease | Literal["gone", "busy", "damaged"]:
        """Take the settle lease and reads the outcomes of the batch."""
        token = secrets.token_hex(8)
        lease = _milliseconds(self._timers.settle_lease_seconds)
        in_doubt = _milliseconds(self._timers.in_doubt_seconds)
        reply = SETTLE.validate_json(self.transition("begin_settle", process_id, token, lease, in_doubt))
        if reply.state != "taken":
            return reply.state
        outcomes = {record.id: record.outcome for record in reply.records}
        events = {record.id: record.event for record in reply.records}
        return SettleLease(process_id, token, reply.now_ms, reply.first_seen_ms, outcomes, events)

    def end_settle(self, settling: SettleLease, done: Iterable[int], next_look_seconds: float) -> str:
        """Drop what the portal needs no more; closes the empty batch. Return "closed", "open" or "lost"."""
        wait = _milliseconds(next_look_seconds)
        ids = json.dumps([str(record) for record in done])
        return str(self.transition("end_settle", settling.process_id, settling.token, wait, ids))

    def overdue_runs(self) -> int:
        """Return how many runs should have been started or ended by now; the next sweep takes them."""
        due = self._redis.zrangebyscore(keys.due(self.stem), "-inf", self.now_ms())
        return sum(1 for name in due if str(name).startswith("run:"))

    def erase(self) -> int:
        """Delete everything that is known of the portal, as when it is removed. Return how many keys that were.

        Messages that are still on their way then find nothing to do.
        """
        names = list(self._redis.scan_iter(keys.pattern(self.stem), count=1000))
        return int(self._redis.delete(*names)) if names else 0

    def count(self, counter: str, by: int = 1) -> None:
        """Add to one of the portal's counters."""
        self._redis.hincrby(keys.stats(self.stem), counter, by)

    def counters(self) -> dict[str, int]:
        """Return the portal's counters since the ledger began."""
        return {str(k): int(v) for k, v in self._redis.hgetall(keys.stats(self.stem)).items()}

    def now_ms(self) -> int:
        """Return the ledger's clock: milliseconds of the Redis server."""
        seconds, micros = self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000
