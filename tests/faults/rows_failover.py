"""Row 49: the ledger's server is replaced by one that has forgotten a part: a promoted replica, or an older copy."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Final

from redis.exceptions import RedisError

from b24offline import keys, supervisor
from b24offline.config import Config
from b24offline.runtime import Runtime
from tests.faults.row import Plan, fault
from tests.faults.rows_answers import fail_some
from tests.faults.stage import START_SECONDS, Stage
from tests.support.sentinels import Watched
from tests.support.waiting import wait_until

LIFE_SECONDS: Final = 180.0 * 0.9
"""How long a report is under way, unscaled: a little less than any may be."""


def _restore(stage: Stage) -> None:
    """Kill the ledger's server; it comes back with what it held when it was last told to save."""
    stage.ledger_server.kill()
    stage.ledger_server.start()
    stage.noted("the ledger's server is killed and has an older copy")


def older_copy_mid_report(stage: Stage) -> None:
    """A report is under way that the copy knows nothing of; what it is about changes meanwhile."""
    stage.settle_some()
    life = LIFE_SECONDS * stage.plan.scale
    late = stage.control.fault("event.offline.error", "late", seconds=life, times=1)
    unlucky = fail_some(stage)
    wait_until(lambda: stage.counters.get("runs_failed", 0) >= len(unlucky), "some fail")
    stage.redis.save()
    wait_until(lambda: stage.control.fired(late), "a report is under way", 90)
    sent = time.monotonic()
    for one in unlucky:  # so that the newer records are there when the report is executed
        stage.journal.tell("slow", life, name=f"crm_company {one}")
    stage.control.change("crm_company", "update", ids=unlucky)
    _restore(stage)
    wait_until(lambda: not stage.control.state()["late_calls"], "the report is executed", 2 * life)
    stage.tell(f"the report was executed {time.monotonic() - sent:.0f} s after it was sent")
    stage.journal.tell_nothing()


fault(49, "an older copy, mid-report", plan=Plan(scale=0.2, concurrency=8), repeats=None, overlap=True)(
    older_copy_mid_report
)


@fault(49, "an older copy, mid-batch", plan=Plan(workers=2, concurrency=2), repeats=None, overlap=True)
def older_copy_mid_batch(stage: Stage) -> None:
    """Batches were opened, run, settled and dead since; nobody reserves for as long as a call of before may live."""
    stage.settle_some()
    stage.journal.tell("slow", 0.5)
    stage.begin(20, 4)
    stage.redis.save()
    stage.change(30, "crm_contact")
    done = stage.journal.count("effect")
    wait_until(lambda: stage.journal.count("effect") >= done + 15, "more is done than the copy knows", 60)
    epoch = _epoch(stage)
    _restore(stage)
    _expect_recovery(stage, epoch, time.time())
    stage.journal.tell_nothing()
    stage.change(10, "crm_company")


def _epoch(stage: Stage) -> str:
    """Return the epoch; a server that has just been replaced closes its connections."""

    def found() -> str:
        with suppress(RedisError):
            return str(stage.redis.hget(keys.fencing(stage.services.ledger.stem), "epoch") or "")
        return ""

    return str(wait_until(found, "the ledger answers", 60))


def _expect_recovery(stage: Stage, epoch: str, since: float) -> None:
    """Wait for the first reserving call of the new epoch, and expect that it came no sooner than it may."""
    pause = stage.runtime.timers.recovery_seconds

    def next_call() -> float:
        # One that had been sent before may just have been executed.
        later = (one["wall"] - since for one in stage.calls("event.offline.get"))
        return min((each for each in later if each > UNDER_WAY_SECONDS), default=0.0)

    wait_until(next_call, "polls begin again", 10 * pause)
    stage.tell(f"the first reserving call came after {next_call():.1f} s")
    stage.expect(next_call() >= pause, f"no reserving call for {pause:.1f} s: it came after {next_call():.1f} s")
    stage.expect(_epoch(stage) != epoch, "the epoch is another one")


UNDER_WAY_SECONDS: Final = 1.0


def _watched(stage: Stage) -> Watched:
    """Give the ledger's server a replica and Sentinels, and start the deployment by their addresses."""
    watched = stage.borrow(Watched(stage.folder, stage.valkey))
    stage.variables |= watched.variables
    stage.environ = supervisor.child_environ(stage.variables)
    stage.runtime = Runtime(Config.load(stage.variables))
    stage.redis = stage.runtime.redis
    stage.workers += [stage.new_worker(f"w{number}").start() for number in range(2)]
    stage.beats = [stage.new_beat("beat").start()]
    wait_until(lambda: stage.control.state()["bindings"], "events are bound at start", START_SECONDS)
    stage.settle_some()
    return watched


def _fail_over(stage: Stage, watched: Watched) -> float:
    """Kill the primary; return when the Sentinels had promoted the replica."""
    stage.ledger_server.kill()
    stage.noted("the primary of ledger and broker is killed")
    wait_until(watched.promoted, "the Sentinels promote the replica", 60)
    return time.time()


BEHIND_SENTINELS: Final[dict[str, Any]] = {
    "plan": Plan(workers=0, concurrency=2, with_beat=False),
    "repeats": None,
    "overlap": True,
    "drain_seconds": 240.0,
}


@fault(49, "a promoted replica that lags", **BEHIND_SENTINELS)
def lagging_replica(stage: Stage) -> None:
    """Batches are opened, run, settled and nacked of which the replica never hears."""
    watched = _watched(stage)
    stage.journal.tell("slow", 0.3)
    stage.begin(20, 4)
    epoch = _epoch(stage)
    watched.cut()
    unlucky = fail_some(stage)
    wait_until(lambda: stage.counters.get("runs_failed", 0) >= len(unlucky), "some fail", 60)
    stage.change(20, "crm_contact")
    done = stage.journal.count("effect")
    wait_until(lambda: stage.journal.count("effect") >= done + 15, "more is done than the replica knows", 60)
    promoted = _fail_over(stage, watched)
    stage.journal.tell_nothing()
    stage.change(10, "crm_lead")
    _expect_recovery(stage, epoch, promoted)


@fault(49, "a primary that is replaced and comes back", **BEHIND_SENTINELS)
def returned_primary(stage: Stage) -> None:
    """Two failovers; the first server is then the primary again, under another replication id."""
    watched = _watched(stage)
    stage.journal.tell("slow", 0.3)
    stage.begin(20, 4)
    epoch = _epoch(stage)
    promoted = _fail_over(stage, watched)
    _expect_recovery(stage, epoch, promoted)
    stage.ledger_server.start()
    wait_until(lambda: watched.primary.info("replication").get("master_link_status") == "up", "it is a replica", 60)
    stage.change(20, "crm_contact")
    epoch = _epoch(stage)
    wait_until(watched.hand_back, "the Sentinels hand over", 60)
    both = time.time()
    wait_until(watched.is_replica, "the other server answers no more", 60)
    stage.tell(f"both servers were primaries for {time.time() - both:.1f} s")
    stage.noted("the first server is the primary again")
    _expect_recovery(stage, epoch, time.time())
    stage.journal.tell_nothing()
    stage.change(10, "crm_lead")
