"""The ledger under any order of calls, repeats, late messages and lost time, against a model of what must never be."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from b24offline.ledger import BatchKind, Entry, RunRef, SettleLease, StepLease, run_id
from tests.support.core_events import TIMERS, entry_of, event_of, ledger_on, pass_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis import Redis

PIPELINES = ("a", "b")
FINAL = {"succeeded", "failed", "superseded"}
choices = st.integers(0, 1_000)


class LedgerMachine(RuleBasedStateMachine):
    """Workers, sweeps and settlers of three objects; every message ever sent may arrive again at any time."""

    redis: Redis

    @initialize()
    def start(self) -> None:
        self.redis.flushall()
        self.ledger = ledger_on(self.redis, crash_budget=2, numbered=False)
        self.records: dict[int, Entry] = {}
        self.pids: dict[str, set[int]] = {}
        self.messages: list[RunRef] = []
        self.done: set[str] = set()
        self.failed: set[str] = set()
        self.settling: list[SettleLease] = []
        self.exhausted: list[RunRef] = []

    def hand(self, handed: Iterable[RunRef]) -> None:
        for one in handed:
            assert one.run not in self.done, "a run that is done was handed out again"
            assert one not in self.messages, "one attempt was handed out twice"
            self.messages.append(one)

    def message(self, choice: int) -> RunRef:
        return self.messages[choice % len(self.messages)]

    # -- batches

    @rule(deals=st.lists(st.sampled_from("123"), min_size=1, max_size=4), nacked=st.booleans())
    def open(self, deals: list[str], nacked: bool) -> None:
        entries = []
        for deal in deals:
            number = len(self.records) + 1
            self.records[number] = entry_of(number, deal, *PIPELINES[: 1 + number % 2], nacked=nacked)
            entries.append(self.records[number])
        pid = f"p{len(self.pids) + 1}"
        self.pids[pid] = {one.event.record_id for one in entries}
        assert self.ledger.open(pid, entries, kind=BatchKind.POLLED) is not None

    @precondition(lambda self: self.pids)
    @rule(choice=choices)
    def hand_a_record_out_again(self, choice: int) -> None:
        live = [pid for pid in self.pids if pid in self.ledger.open_batches()]
        retrying = sorted({number for pid in live for number in self.ledger.events(pid)})
        if retrying:
            number, pid = retrying[choice % len(retrying)], f"p{len(self.pids) + 1}"
            self.pids[pid] = {number}
            assert self.ledger.open(pid, [self.records[number]], kind=BatchKind.POLLED) is not None

    @precondition(lambda self: self.reportable())
    @rule(choice=choices)
    def a_reported_record_comes_again(self, choice: int) -> None:
        """Its batch may be closed, or still open: then it leaves it. All its runs start again, as retrying ones."""
        number = self.reportable()[choice % len(self.reportable())]
        entry = self.records[number]
        self.records[number] = replace(entry, event=replace(entry.event, nacked=True))
        self.done -= {run_id(entry.event, pipeline) for pipeline in entry.pipelines}
        pid = f"p{len(self.pids) + 1}"
        self.pids[pid] = {number}
        assert self.ledger.open(pid, [self.records[number]], kind=BatchKind.RETRYING) == len(entry.pipelines)
        live = self.ledger.open_batches()
        assert [one for one in self.pids if one in live and number in self.ledger.events(one)] == [pid]

    def reportable(self) -> list[int]:
        """Record all of whose runs ended, one by failing."""
        found = []
        for number, entry in self.records.items():
            runs = {run_id(entry.event, pipeline) for pipeline in entry.pipelines}
            if not entry.event.nacked and runs <= self.done and runs & self.failed:
                found.append(number)
        return found

    @precondition(lambda self: self.pids)
    @rule(choice=choices)
    def dispatch(self, choice: int) -> None:
        self.hand(self.ledger.start(list(self.pids)[choice % len(self.pids)]))

    # -- runs

    @precondition(lambda self: self.messages)
    @rule(choice=choices, step=st.integers(0, 2))
    def begin(self, choice: int, step: int) -> None:
        one = self.message(choice)
        begun = self.ledger.begin_step(one.run, one.attempt, step)
        if begun is not None:
            assert one.run not in self.done
            assert self.newest(one.run) == one, "a replaced attempt began"

    @precondition(lambda self: self.messages)
    @rule(choice=choices, position=st.integers(0, 2), to=st.integers(1, 3))
    def go_on(self, choice: int, position: int, to: int) -> None:
        """The next step in the same message, of a step that may have lost its lease long ago."""
        one = self.message(choice)
        lease = StepLease(self.records[1].event, 0, retrying=False, seen_ms=0, tries=1, step_failures=0)
        before = self.state(one.run)
        if self.ledger.go_on(one.run, one.attempt, position, to, lease) is not None:
            assert one.run not in self.done
            assert before == "running", "a step went on that does not run"
            assert self.newest(one.run) == one, "a replaced attempt went on"

    def newest(self, run: str) -> RunRef:
        return max((one for one in self.messages if one.run == run), key=lambda one: one.attempt)

    @precondition(lambda self: self.messages)
    @rule(choice=choices)
    def succeed(self, choice: int) -> None:
        self.conclude(self.message(choice), "succeeded")

    @precondition(lambda self: self.messages)
    @rule(choice=choices, backoff=st.sampled_from([0.001, 5.0, 90.0]))
    def fail(self, choice: int, backoff: float) -> None:
        self.conclude(self.message(choice), "failed", backoff)

    def conclude(self, one: RunRef, outcome: str, backoff: float = 0) -> None:
        if outcome == "succeeded":
            reply = self.ledger.succeed(one.run, one.attempt)
        else:
            reply = self.ledger.fail(one.run, one.attempt, "x", backoff_seconds=backoff)
        if reply.recorded:
            assert one.run not in self.done
            self.done.add(one.run)
            self.failed |= {one.run} if outcome == "failed" else set()
        self.note_superseded()
        self.hand([reply.next] if reply.next else [])

    def note_superseded(self) -> None:
        """A success, or a newer retrying run, ends older runs of the same message that have yielded their slot."""
        self.done |= {run for run, fields in self.runs().items() if fields["state"] == "superseded"}

    @precondition(lambda self: self.messages)
    @rule(choice=choices, counted=st.booleans(), restart=st.booleans())
    def wait(self, choice: int, counted: bool, restart: bool) -> None:
        one = self.message(choice)
        how = self.ledger.reschedule_run if restart else self.ledger.retry_step
        assert not (how(one.run, one.attempt, 5, counted=counted, reason="x") and one.run in self.done)
        self.note_superseded()

    @precondition(lambda self: self.messages)
    @rule(choice=choices)
    def crash(self, choice: int) -> None:
        one = self.message(choice)
        reply = self.ledger.crash(one.run, one.attempt, backoff_seconds=2)
        if reply.recorded and self.state(one.run) == "failed":
            self.done.add(one.run)
            self.failed.add(one.run)
        self.note_superseded()
        self.hand([reply.next] if reply.next else [])

    # -- time, sweep

    @rule(
        seconds=st.sampled_from(
            [1, 10, TIMERS.lease_seconds, TIMERS.run_queue_seconds, 6_000, TIMERS.dead_letter_after_seconds]
        )
    )
    def time_passes(self, seconds: float) -> None:
        pass_time(self.redis, self.ledger, seconds)

    @rule(limit=st.sampled_from([1, 200]))
    def sweep(self, limit: int) -> None:
        overdue = self.ledger.take_overdue(limit)
        self.done |= {run for run in self.runs() if self.state(run) in FINAL}
        self.hand(overdue.runs)
        self.exhausted += overdue.exhausted

    # -- dead-lettering

    @precondition(lambda self: self.exhausted)
    @rule(choice=choices)
    def dead_letter(self, choice: int) -> None:
        one = self.exhausted[choice % len(self.exhausted)]
        reply = self.ledger.transition("dead_letter_run", one.run, one.attempt, 86_400_000)
        assert reply in {"dead_lettered", "kept", "moved", "done"}
        assert not (reply in {"dead_lettered", "kept"} and one.run in self.done)
        self.note_superseded()

    @precondition(lambda self: self.exhausted)
    @rule(choice=choices)
    def redrive(self, choice: int) -> None:
        one = self.exhausted[choice % len(self.exhausted)]
        reply = self.ledger.transition("redrive_run", one.run, 0, 1)
        assert not (reply == "redriven" and one.run in self.done)

    @precondition(lambda self: self.exhausted)
    @rule(choice=choices)
    def drop(self, choice: int) -> None:
        one = self.exhausted[choice % len(self.exhausted)]
        if self.ledger.transition("drop_run", one.run, "dropped") == "dropped":
            assert one.run not in self.done
            self.done.add(one.run)

    # -- settle

    @precondition(lambda self: self.pids)
    @rule(choice=choices)
    def begin_settle(self, choice: int) -> None:
        pid = list(self.pids)[choice % len(self.pids)]
        settling = self.ledger.begin_settle(pid)
        assert settling != "damaged"
        if isinstance(settling, SettleLease):
            assert set(settling.outcomes) <= self.pids[pid]
            self.settling.append(settling)

    @precondition(lambda self: self.settling)
    @rule(choice=choices, everything=st.booleans())
    def end_settle(self, choice: int, everything: bool) -> None:
        settling = self.settling.pop(choice % len(self.settling))
        final = [record for record, outcome in settling.outcomes.items() if outcome in FINAL]
        state = self.ledger.end_settle(settling, final if everything else final[:1], 1)
        assert state in {"open", "closed", "lost"}
        if state == "closed":
            assert all(outcome in FINAL for outcome in settling.outcomes.values()), "closed with unfinished work"

    # -- what must never be

    def runs(self) -> dict[str, dict[str, str]]:
        stem = f"{self.ledger.stem}:run:"
        keys = list(self.redis.scan_iter(f"{stem}*", count=1_000))
        with self.redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(key)
            return dict(zip((key.removeprefix(stem) for key in keys), pipe.execute(), strict=True))

    def state(self, run: str) -> str | None:
        return self.redis.hget(f"{self.ledger.stem}:run:{run}", "state")

    @invariant()
    def the_promises_hold(self) -> None:
        if not hasattr(self, "ledger"):
            return
        runs = self.runs()
        due = set(self.redis.zrange(f"{self.ledger.stem}:due", 0, -1))
        places = {box: self.redis.lrange(box, 0, -1) for box in {fields["object_queue"] for fields in runs.values()}}
        active: dict[str, str] = {}
        for run, fields in runs.items():
            if fields["state"] in FINAL:
                assert run in self.done
                continue
            assert run not in self.done, "a run that was done is open again"
            assert f"run:{run}" in due, "no sweep will ever look at this run again"
            yielded = run not in places[fields["object_queue"]]
            assert not yielded or (fields["state"] in {"dead_lettered", "waiting"} and fields["nacked"] == "1")
            assert not (fields["state"] == "dead_lettered" and not yielded), (
                "a dead-lettered run blocks its object queue"
            )
            if yielded:
                continue
            if fields["state"] in {"running", "waiting"}:
                assert active.setdefault(fields["object_queue"], run) == run, "two runs of one object and pipeline"
        assert {f"batch:{pid}" for pid in self.ledger.open_batches()} <= due

    def teardown(self) -> None:
        """Whatever happened: with workers that work, everything comes to its end."""
        if not hasattr(self, "ledger"):
            return
        for _ in range(60):
            if not self.ledger.open_batches():
                break
            pass_time(self.redis, self.ledger, 8 * TIMERS.run_queue_seconds)
            overdue = self.ledger.take_overdue()
            self.hand(overdue.runs)
            for one in overdue.exhausted:
                if self.ledger.transition("dead_letter_run", one.run, one.attempt, 1) in {"dead_lettered", "kept"}:
                    assert self.ledger.transition("redrive_run", one.run, 0, 1) == "redriven"
            self.note_superseded()
            for one in overdue.runs:
                if self.ledger.begin_step(one.run, one.attempt, 0):
                    self.conclude(one, "succeeded")
            for pid in overdue.batches:
                settling = self.ledger.begin_settle(pid)
                if isinstance(settling, SettleLease):
                    final = [record for record, outcome in settling.outcomes.items() if outcome in FINAL]
                    self.ledger.end_settle(settling, final, 1)
        assert self.ledger.open_batches() == {}
        left = {
            key.removeprefix(self.ledger.stem).split(":")[1] for key in self.redis.scan_iter(f"{self.ledger.stem}*")
        }
        assert left <= {"stats", "wait", "fencing"}, "something was left behind"


def test_the_ledger_keeps_its_promises_in_any_order(redis: Redis) -> None:
    class Machine(LedgerMachine):
        pass

    Machine.redis = redis
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=50,
            stateful_step_count=40,
            deadline=None,
            # shrinking takes minutes here, longer than the time a test may take
            phases=(Phase.reuse, Phase.generate),
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_run_ids_name_record_stamp_and_pipeline() -> None:
    event = event_of(5)
    assert run_id(event, "a") == f"{event.delivery}/a"
