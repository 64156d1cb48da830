"""What may happen to one portal and its deployment, as rules of a state machine, and what must never come of it.

Polls, settles, adoptions and redrives are the product's own, each a course that may stop or die between any two of its
calls. Handlers may outlive their leases, messages may come any number of times or never, the ledger may be lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from b24offline.errors import PortalError, RateLimited
from b24offline.rest import UnsafeCall
from tests.faults.checker import Verdict
from tests.support.core_events import TIMERS
from tests.support.courses import Course, TimedRedis
from tests.support.protocol_world import EPOCH, LANE, Execution, Sent, World

if TYPE_CHECKING:
    from b24offline.ledger import Completion, RunRef
    from b24offline.store import Store

EXPECTED = (PortalError, RateLimited, UnsafeCall)
"""What a task of the deployment may end with; another one takes the work up."""
COURSES = 3
REDRIVE_AFTER_SECONDS = TIMERS.redrive_backoff_seconds[0]
DRAIN_ROUNDS = 60
DAY = 86_400.0
END = 99
CALL = 0
"""Instead of a number of stops: to the end, and to a call that changes something."""
LONG_WAITS = 5
"""Jumps of a day in one history: the portal forgets what was reserved for thirty."""

choices = st.integers(0, 30)
stops = st.sampled_from([END, END, END, CALL, CALL, 1, 2, 3, 5])
fates = st.sampled_from(["answered"] * 5 + ["lost", "late", "late", "dropped", "twice", "twice", "refused"])
outcomes = st.lists(st.sampled_from(["ok", "fail"]), min_size=1, max_size=3)
seconds = st.sampled_from(
    [
        1.0,
        20.0,
        TIMERS.lease_seconds + 1,
        TIMERS.nack_age_seconds + 1,
        TIMERS.settle_due_seconds + 1,
        TIMERS.all_in_doubt_seconds + 1,
        TIMERS.redrive_backoff_seconds[0] + 1,
        TIMERS.redrive_backoff_seconds[2],
        DAY,
    ]
)


class ProtocolMachine(RuleBasedStateMachine):
    """One portal with two deals. `redis` and `store` are set by the test; `steps` counts over all histories."""

    redis: ClassVar[TimedRedis]
    store: ClassVar[Store]
    names: ClassVar[Iterator[str]]
    steps: ClassVar[int] = 0
    histories: ClassVar[int] = 0
    reached: ClassVar[Counter[str]] = Counter()
    """How often something happened that histories must not miss: moves of records, and the ledger's counters."""

    @initialize(losses=st.sampled_from([0, 0, 1, 2]))
    def begin(self, losses: int) -> None:
        cls = type(self)
        cls.histories += 1
        self.redis.flushall()
        self.redis.begin(EPOCH)
        self.world = World(self.redis, self.store, next(self.names))
        self.ledger = self.world.ledger
        self.deals = [self.world.portal.objects.add("crm_deal", EPOCH, {"TITLE": "x"}) for _ in range(2)]
        self.courses: list[tuple[Course, Callable[[Any], None]]] = []
        self.messages: list[RunRef] = []
        self.asked: list[str] = []
        self.working: list[Execution] = []
        self.dead_lettered: set[str] = set()
        self.may_overlap = False
        self.losses = losses
        self.long_waits = LONG_WAITS

    # -- the portal ------------------------------------------------------------------------------------------

    @rule(which=st.sampled_from([0, 0, 1]), delete=st.sampled_from([False] * 5 + [True]))
    def change(self, which: int, delete: bool) -> None:
        deal, portal = self.deals[which], self.world.portal
        if deal.deleted:
            self.deals[which] = self.world.add()
        elif delete:
            portal.delete(deal)
        else:
            portal.update(deal, {"TITLE": f"{deal.revision}"})

    @precondition(lambda self: len(self.courses) < COURSES)
    @rule(
        which=st.sampled_from([0, 0, 1]),
        fate=fates,
        how=st.sampled_from(["fail", "fail", "ok", "stalls"]),
        passing=st.sampled_from([1.0, TIMERS.nack_age_seconds + 1]),
        steps=stops,
        settle_fate=fates,
    )
    def change_and_run(self, which: int, fate: str, how: str, passing: float, steps: int, settle_fate: str) -> None:
        """The beginning of most histories that matter, in one rule."""
        self.change(which, False)
        self.course(
            "poll", lambda: self.world.poller.poll(LANE), lambda polled: self.dispatch(polled.opened), END, fate
        )
        for number in range(min(3, len(self.messages))):
            self.run(number, how == "stalls", how)
        self.pass_time(passing, alive=True)
        if self.asked:
            self.settle(0, steps, settle_fate)

    @precondition(lambda self: self.world.network.flying)
    @rule(choice=choices, again=st.booleans(), overlap=st.booleans())
    def late_call(self, choice: int, again: bool, overlap: bool) -> None:
        flying = self.world.network.flying
        sent = flying[choice % len(flying)] if again else flying.pop(choice % len(flying))
        self.world.network.execute(sent, overlap=overlap)
        self.check()

    # -- processes that call the portal ----------------------------------------------------------------------

    def course(self, name: str, work: Callable[[], Any], then: Callable[[Any], None], *how: Any) -> None:
        self.courses.append((Course(name, work), then))
        self.walk(len(self.courses) - 1, *how)

    def walk(self, index: int, steps: int, fate: str) -> None:
        """Let a course go on. The fate is that of its first call that changes something."""
        course, then = self.courses[index]
        for _ in range(steps or END):
            reply, sent = "answered", course.waits_for
            if sent is not None and sent.method != "list":
                reply, fate = fate, "answered"
            course.go_on(reply)
            if course.over:
                del self.courses[index]
                if course.error is None:
                    then(course.result)
                elif not isinstance(course.error, EXPECTED):
                    raise course.error
                else:
                    self.reached[f"{course.name}: {type(course.error).__name__}"] += 1
                break
            if steps == CALL and course.waits_for is not None and course.waits_for.method != "list":
                break
        self.check()

    @precondition(lambda self: len(self.courses) < COURSES)
    @rule(steps=stops, fate=fates, dispatched=st.sampled_from([True, True, False]))
    def poll(self, steps: int, fate: str, dispatched: bool) -> None:
        def then(polled: Any) -> None:
            if dispatched:
                self.dispatch(polled.opened)

        self.course("poll", lambda: self.world.poller.poll(LANE), then, steps, fate)

    @precondition(lambda self: len(self.courses) < COURSES)
    @rule(steps=stops)
    def adopt(self, steps: int) -> None:
        self.course("adopt", self.world.poller.adopt, self.dispatch, steps, "answered")

    @precondition(lambda self: len(self.courses) < COURSES)
    @rule(steps=stops, fate=fates)
    def redrive(self, steps: int, fate: str) -> None:
        self.course("redrive", self.redriven, self.dispatch, steps, fate)

    def redriven(self) -> tuple[str, ...]:
        world = self.world
        due = world.fencing.due_nacked(world.queue.nacked(), REDRIVE_AFTER_SECONDS)
        return world.poller.redrive(islice(due, 20))

    def settleable(self) -> list[str]:
        """Process ids, those first that are most likely to need it."""
        opened = list(reversed(self.ledger.open_batches()))
        asked = list(dict.fromkeys(reversed(self.asked)))
        names = [*(pid for pid in asked if pid in opened), *opened, *asked]
        return list(dict.fromkeys(names))

    @precondition(lambda self: len(self.courses) < COURSES and self.settleable())
    @rule(choice=choices, steps=stops, fate=fates)
    def settle(self, choice: int, steps: int, fate: str) -> None:
        pids = self.settleable()
        pid = pids[choice % len(pids)]
        self.course("settle", lambda: self.world.settler.settle(pid), lambda _: None, steps, fate)

    @precondition(lambda self: self.courses)
    @rule(choice=choices, steps=stops, fate=fates)
    def go_on(self, choice: int, steps: int, fate: str) -> None:
        self.walk(choice % len(self.courses), steps, fate)

    @precondition(lambda self: self.courses)
    @rule(choice=choices)
    def process_dies(self, choice: int) -> None:
        self.bury(self.courses.pop(choice % len(self.courses))[0])

    def bury(self, course: Course) -> None:
        if isinstance(course.waits_for, Sent) and course.waits_for.alive(self.redis.now):
            self.world.network.flying.append(course.waits_for)
        course.kill()

    # -- runs ------------------------------------------------------------------------------------------------

    def dispatch(self, pids: Any) -> None:
        for pid in pids:
            self.messages += sorted(self.ledger.start(pid), key=lambda one: one.run)

    @precondition(lambda self: self.messages)
    @rule(choice=choices, retrying_up=st.booleans(), how=st.sampled_from(["ok", "ok", "fail", "fail", "dies", "crash"]))
    def run(self, choice: int, retrying_up: bool, how: str) -> None:
        handed = self.messages[-1 - choice % len(self.messages)]
        begun = self.ledger.begin_step(handed.run, handed.attempt, 0)
        if begun is not None:
            self.working.append(self.world.journal.start(begun.event, handed, retrying=begun.retrying))
            if not retrying_up:
                self.end(self.working.pop(), how)

    @precondition(lambda self: self.working)
    @rule(choice=choices, how=st.sampled_from(["ok", "fail", "later", "crash", "dies"]))
    def run_ends(self, choice: int, how: str) -> None:
        self.end(self.working.pop(choice % len(self.working)), how)

    def end(self, execution: Execution, how: str) -> None:
        run, attempt = execution.handed.run, execution.handed.attempt
        if how == "ok":
            self.world.journal.end(execution, ok=True)
            self.follow(self.ledger.succeed(run, attempt))
        elif how == "crash":
            self.follow(self.ledger.crash(run, attempt, backoff_seconds=20))
        elif how in {"fail", "later"}:
            self.world.journal.end(execution, ok=False)
            if execution.retrying:
                self.ledger.reschedule_run(run, attempt, None, counted=True, reason="x")
            elif how == "later":
                self.ledger.reschedule_run(run, attempt, 100, counted=True, reason="x")
            else:
                self.follow(self.ledger.fail(run, attempt, "x", backoff_seconds=30))

    def follow(self, reply: Completion) -> None:
        self.messages += [reply.next] if reply.next else []
        self.asked += reply.settleable

    # -- time, sweep, loss -----------------------------------------------------------------------------------

    @rule(passing=seconds, alive=st.sampled_from([True, True, False]))
    def time_passes(self, passing: float, alive: bool) -> None:
        if passing == DAY:
            self.long_waits -= 1
            passing = DAY if self.long_waits >= 0 else 60.0
        self.pass_time(passing, alive=alive)

    def pass_time(self, passing: float, *, alive: bool) -> None:
        self.redis.advance(passing)
        self.world.drop_dead_calls()
        for one in self.working:
            if alive:
                self.ledger.renew(one.handed.run, one.handed.attempt, 0)
            else:
                self.may_overlap = True

    @rule(passing=seconds, ends=outcomes, settled=st.sampled_from([False, False, True]))
    def all_goes_well(self, passing: float, ends: list[str], settled: bool) -> None:
        """Most of the time nothing breaks but handlers, and there are more workers than those that stand still."""
        if passing != DAY:
            self.pass_time(passing, alive=True)
        self.dispatch(self.world.poller.poll(LANE).opened)
        self.dispatch(self.redriven())
        self.dispatch(self.world.poller.adopt())
        self.sweep()
        for number in range(min(8, len(self.messages))):
            self.run(number, False, ends[number % len(ends)])
        for pid in self.settleable()[: 4 * settled]:
            self.world.settler.settle(pid)
        self.check()

    @rule()
    def sweep(self) -> None:
        overdue = self.ledger.take_overdue()
        self.messages += overdue.runs
        self.asked += overdue.batches
        for one in overdue.exhausted:
            if self.world.dead_letter_queue.dead_letter(one) in {"dead_lettered", "kept"}:
                self.dead_lettered.add(one.run)

    @precondition(lambda self: self.losses)
    @rule(choice=choices, everything=st.booleans())
    def keys_are_lost(self, choice: int, everything: bool) -> None:
        self.losses -= 1
        keys = sorted(self.redis.scan_iter(f"{self.ledger.stem}:*", count=1_000))
        if keys:
            self.may_overlap = True
            self.redis.delete(*(keys if everything else [keys[choice % len(keys)]]))

    # -- what must never be ----------------------------------------------------------------------------------

    def check(self) -> None:
        wrong = [*self.world.network.wrong, *self.world.lost()]
        assert not wrong, wrong

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "world"):
            type(self).steps += 1
            self.check()

    def teardown(self) -> None:
        """Whatever happened: without further faults the queue becomes empty, and every change was run."""
        if not hasattr(self, "world"):
            return
        type(self).steps -= 1  # the beginning is none
        for course, _ in self.courses:
            self.bury(course)
        for sent in self.world.network.flying:
            self.world.network.execute(sent)
        self.world.network.flying.clear()
        while self.working:  # those that were given up long ago come back
            self.end(self.working.pop(0), "ok")
        self.check()
        self.count()
        for number in range(DRAIN_ROUNDS):
            if not len(self.world.portal.queue) and not self.ledger.open_batches():
                break
            self.drain(DAY / 4 if number % 10 == 9 else TIMERS.redrive_backoff_seconds[0] + 1)
        else:
            raise AssertionError(
                f"not drained: {list(self.world.portal.queue.records())}, {self.ledger.open_batches()}"
            )
        self.check()
        found = self.world.verdict()
        if self.may_overlap:
            found = replace(found, overlap=())
        assert replace(found, repeats=0) == Verdict(), found

    def count(self) -> None:
        self.reached.update(self.ledger.counters())
        self.reached.update(self.world.network.fates)
        self.reached.update(str(row["kind"]) for row in self.world.portal.history.page(0, 1_000_000))

    def drain(self, passing: float) -> None:
        """One round of everything, fault free."""
        self.pass_time(passing, alive=True)
        world = self.world
        self.dispatch(world.poller.adopt())
        self.dispatch(self.redriven())
        while (polled := world.poller.poll(LANE)).opened:
            self.dispatch(polled.opened)
        self.sweep()
        for run in sorted(self.dead_lettered):
            world.dead_letter_queue.redrive(run)
        self.dead_lettered.clear()
        while self.messages:
            one = self.messages.pop(0)
            begun = self.ledger.begin_step(one.run, one.attempt, 0)
            if begun is not None:
                self.end(world.journal.start(begun.event, one, retrying=begun.retrying), "ok")
        for pid in self.settleable():
            world.settler.settle(pid)
        self.asked.clear()
        self.check()
