"""The whole way over HTTP: poll, run, settle, with answers that the network loses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline.config import Lane
from b24offline.delivery import Settler
from b24offline.delivery.poller import Poller
from b24offline.emulator import EmulatorProcess
from b24offline.errors import AccessDenied, UnknownAnswer
from b24offline.events import Routes, shipped_catalogue
from b24offline.rest import OfflineQueue, bind_events
from tests.support.core_events import PORTAL, TIMERS, guard_on, ledger_on, pass_time
from tests.support.live_portal import LivePortal, live
from tests.support.portal_desk import CONNECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

LANE = Lane(name="default", batch_size=50)
__all__ = ["live"]


class Pipeline:
    """Poller and settler of the emulated portal; deals only."""

    def __init__(self, redis: Redis, live: LivePortal) -> None:
        self.redis, self.live = redis, live
        self.ledger = ledger_on(redis)
        fencing = guard_on(redis, self.ledger)
        queue = OfflineQueue(live.client, PORTAL, CONNECTOR)
        routes = Routes()
        routes.add(lambda event: event, ("ONCRMDEALUPDATE",), "deal_changed")
        self.settler = Settler(self.ledger, fencing, queue, TIMERS)
        self.poller = Poller(
            portal=PORTAL,
            queue=queue,
            ledger=self.ledger,
            fencing=fencing,
            store=live.store,
            catalogue=shipped_catalogue(),
            routes=routes,
            unrouted="ack",
        )
        bind_events(live.client, CONNECTOR, ["ONCRMDEALUPDATE"])
        self.poller.poll(LANE)
        self.deals = live.control.change("crm_deal", "update", count=3)
        self.start = live.seq()

    def ran(self, process_id: str, outcome: str) -> None:
        for one in self.ledger.start(process_id):
            self.ledger.begin_step(one.run, one.attempt, 0)
            if outcome == "succeeded":
                self.ledger.succeed(one.run, one.attempt)
            else:
                self.ledger.fail(one.run, one.attempt, "Boom", backoff_seconds=1)

    def change(self) -> None:
        self.live.control.change("crm_deal", "update", ids=self.deals)

    def later(self, seconds: float) -> None:
        pass_time(self.redis, self.ledger, seconds)

    def kinds(self) -> list[str]:
        return [entry["kind"] for entry in self.live.control.history(self.start)]


@pytest.fixture
def emulator() -> Iterator[EmulatorProcess]:
    """A portal for each test: what one leaves reserved, another would adopt."""
    with EmulatorProcess(objects=30) as process:
        yield process


@pytest.fixture
def pipeline(redis: Redis, live: LivePortal) -> Pipeline:
    return Pipeline(redis, live)


def test_the_common_case_is_two_requests(pipeline: Pipeline) -> None:
    (pid,) = pipeline.poller.poll(LANE).opened
    pipeline.ran(pid, "succeeded")
    assert pipeline.settler.settle(pid).state == "closed"
    assert pipeline.live.calls_since(pipeline.start) == ["event.offline.get", "event.offline.clear"]
    assert pipeline.live.control.state()["records"] == 0


def test_a_reservation_whose_answer_is_lost_is_adopted_without_a_repeat(pipeline: Pipeline) -> None:
    pipeline.live.control.fault("event.offline.get", "reset", stage="after", times=1)
    with pytest.raises(UnknownAnswer):
        pipeline.poller.poll(LANE)
    assert pipeline.poller.poll(LANE).state == "busy"
    pipeline.later(TIMERS.poll_lease_seconds + 1)
    assert pipeline.poller.adopt() == ()
    pipeline.later(TIMERS.sighting_seconds + 1)
    (pid,) = pipeline.poller.adopt()
    pipeline.ran(pid, "succeeded")
    pipeline.later(TIMERS.in_doubt_seconds + 1)
    assert pipeline.settler.settle(pid).acknowledged == 3
    assert pipeline.live.calls_since(pipeline.start).count("event.offline.get") == 1


def test_a_clear_whose_answer_is_lost_spares_the_next_change(pipeline: Pipeline) -> None:
    (pid,) = pipeline.poller.poll(LANE).opened
    pipeline.ran(pid, "succeeded")
    pipeline.live.control.fault("event.offline.clear", "reset", stage="after", times=1)
    with pytest.raises(UnknownAnswer):
        pipeline.settler.settle(pid)
    pipeline.change()
    assert pipeline.settler.settle(pid).state == "closed"
    assert pipeline.live.control.state()["free"] == 3


@pytest.mark.parametrize("stage", ["before", "after"])
def test_an_error_whose_answer_is_lost_destroys_nothing(pipeline: Pipeline, stage: str) -> None:
    (pid,) = pipeline.poller.poll(LANE).opened
    pipeline.ran(pid, "failed")
    pipeline.later(TIMERS.nack_age_seconds + 1)
    pipeline.live.control.fault("event.offline.error", "reset", stage=stage, times=1)
    with pytest.raises(UnknownAnswer):
        pipeline.settler.settle(pid)
    pipeline.change()
    state = pipeline.settler.settle(pid).state
    assert state == ("closed" if stage == "after" else "open")
    assert pipeline.live.calls_since(pipeline.start).count("event.offline.error") == 1
    if stage == "before":
        pipeline.later(TIMERS.in_doubt_seconds + 1)
        assert pipeline.settler.settle(pid).acknowledged == 3
    assert "deleted_by_error" not in pipeline.kinds()
    # the changes are on records of their own, or have moved the stamps of the nacked ones
    assert pipeline.live.control.state()["free" if stage == "before" else "free_nacked"] == 3


def test_an_error_executed_twice_by_the_network_destroys_nothing(pipeline: Pipeline) -> None:
    (pid,) = pipeline.poller.poll(LANE).opened
    pipeline.ran(pid, "failed")
    pipeline.later(TIMERS.nack_age_seconds + 1)
    pipeline.live.control.fault("event.offline.error", "twice", times=1)
    assert pipeline.settler.settle(pid).nacked == 3
    pipeline.change()
    assert "deleted_by_error" not in pipeline.kinds()
    assert pipeline.settler.settle(pid).state == "closed"
    assert pipeline.live.control.state()["free_nacked"] == 3


def test_a_plan_that_shrinks_acknowledges_nothing(pipeline: Pipeline) -> None:
    (pid,) = pipeline.poller.poll(LANE).opened
    pipeline.ran(pid, "failed")
    pipeline.live.control.user(admin=False)
    pipeline.later(TIMERS.nack_age_seconds + 1)
    with pytest.raises(AccessDenied):
        pipeline.settler.settle(pid)
    pipeline.live.control.user(admin=True)
    assert pipeline.live.control.state()["reserved"] == 3
    assert pipeline.settler.settle(pid).nacked == 3
