"""The ways into the ledger: polls, adoption of orphans, redrive; each under the poll lease."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline.delivery.batch_opener import UNROUTED_LOG_SECONDS
from b24offline.delivery.poller import PollResult
from b24offline.errors import QueryLimitExceeded, RateLimited, StoreError
from b24offline.ledger import MAX_RETRYING_RECORDS, BatchKind, PollLease, SettleLease
from tests.support.core_events import (
    PORTAL,
    TIMERS,
    message_of,
    reserve_nacked,
)
from tests.support.deployment import GET, LANE, Deployment
from tests.support.portal_desk import refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from redis import Redis

    from b24offline.events import Record


@pytest.fixture
def acme(redis: Redis, tmp_path: Path) -> Deployment:
    return Deployment(redis, tmp_path, B24_MAX_IN_FLIGHT_BATCHES="3")


def test_a_poll_reserves_and_opens_one_batch(acme: Deployment) -> None:
    acme.changes("1", "2", "3")
    polled = acme.poller.poll(LANE)
    (pid,) = polled.opened
    assert polled == PollResult("opened", 2, (pid,), 2)
    assert acme.desk.methods() == ["get"]
    assert list(acme.ledger.open_batches()) == [pid]
    assert {one.object.object_id for one in acme.ledger.events(pid).values() if one.object} == {"1", "2"}
    assert len(acme.ledger.start(pid)) == 2
    assert acme.poller.poll(LANE).received == 1


def test_an_empty_queue_gives_the_lease_back(acme: Deployment) -> None:
    assert acme.poller.poll(LANE) == PollResult("empty", asked=2)
    assert acme.poller.poll(LANE) == PollResult("empty", asked=2)
    assert acme.desk.methods() == ["get", "get"]
    assert acme.ledger.open_batches() == {}


def test_the_epoch_is_in_the_store_before_the_call_is_sent(acme: Deployment) -> None:
    acme.store.portals.set_epoch(PORTAL, None)
    seen = {}
    acme.desk.before = lambda method: seen.update({method: acme.store.portals.get(PORTAL).ledger_epoch})
    acme.poller.poll(LANE)
    assert seen["event.offline.list"] is None
    assert str(seen[GET]) == acme.redis.hget(f"{acme.ledger.stem}:fencing", "epoch")


def test_while_another_reserving_call_is_under_way_none_is_sent(acme: Deployment) -> None:
    acme.changes("1")
    answers = []
    acme.desk.before = lambda method: answers.append(acme.poller.poll(LANE).state) if not answers else None
    assert acme.poller.poll(LANE).state == "opened"
    assert answers == ["busy"]
    assert acme.desk.methods() == ["get"]


def test_too_many_open_batches_send_none(acme: Deployment) -> None:
    acme.changes(*"1234567")
    assert [acme.poller.poll(LANE).state for _ in range(4)] == ["opened", "opened", "opened", "full"]
    assert acme.desk.methods() == ["get"] * 3


def test_after_loss_of_the_ledger_none_is_sent_for_a_while(acme: Deployment) -> None:
    acme.poller.poll(LANE)
    acme.redis.flushall()
    acme.changes("1")
    assert acme.poller.poll(LANE).state == "recovering"
    assert acme.poller.adopt() == ()
    assert acme.desk.methods() == ["get"]
    acme.later(TIMERS.recovery_seconds + 1)
    assert acme.poller.poll(LANE).state == "opened"


@pytest.mark.parametrize("error", [refusal(QueryLimitExceeded, GET), RateLimited(PORTAL, 9.0), StoreError("away")])
def test_a_call_that_was_surely_not_executed_gives_the_lease_back(acme: Deployment, error: Exception) -> None:
    acme.desk.refuse[GET] = error
    with pytest.raises(type(error)):
        acme.poller.poll(LANE)
    assert acme.poller.poll(LANE).state == "empty"


def test_a_lease_lost_during_the_call_opens_nothing(acme: Deployment) -> None:
    acme.changes("1")

    def slow(method: str) -> None:
        if method == GET:
            acme.later(TIMERS.poll_lease_seconds + 1)
            epoch = acme.store.portals.get(PORTAL).ledger_epoch
            assert isinstance(acme.fencing.take_poll_lease(epoch), PollLease)

    acme.desk.before = slow
    acme.poller.poll(LANE)
    assert acme.ledger.open_batches() == {}
    acme.desk.before = lambda method: None
    assert len(acme.adopted()) == 1


@pytest.mark.parametrize(("policy", "outcome"), [("ack", "succeeded"), ("nack", "failed")])
def test_an_event_without_route_follows_the_policy(redis: Redis, tmp_path: Path, policy: str, outcome: str) -> None:
    acme = Deployment(redis, tmp_path, B24_UNROUTED=policy)
    acme.desk.change("1", "ONCRMLEADADD")
    (pid,) = acme.poller.poll(LANE).opened
    assert acme.outcomes(pid) == {1: outcome}
    assert acme.ledger.counters()["events_unrouted"] == 1


def test_of_an_event_acknowledged_without_a_route_each_process_tells_once_an_hour(
    acme: Deployment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reply: dict[str, float] = {}
    monkeypatch.setattr("b24offline.delivery.batch_opener._logged_at", reply)
    for deal, name in enumerate(("ONCRMLEADADD", "ONCRMDEALUPDATE", "ONCRMLEADADD", "ONCRMLEADADD"), 1):
        if deal == 4:
            reply["ONCRMLEADADD"] -= UNROUTED_LOG_SECONDS
        acme.desk.change(str(deal), name)
        acme.settler.settle(*acme.poller.poll(LANE).opened)
    lines = [vars(one)["event"] for one in caplog.records if one.msg == "event without a route acknowledged"]
    assert lines == ["ONCRMLEADADD", "ONCRMLEADADD"]


def test_an_event_nacked_for_want_of_a_route_is_told_as_such(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("b24offline.delivery.batch_opener._logged_at", {})
    acme = Deployment(redis, tmp_path, B24_UNROUTED="nack")
    acme.desk.change("1", "ONCRMLEADADD")
    assert acme.poller.poll(LANE).opened
    assert [one.msg for one in caplog.records if one.levelname == "WARNING"] == ["event without a route nacked"]


def test_rows_that_cannot_be_read_fail_alone(acme: Deployment) -> None:
    acme.changes("1", "2")
    acme.desk.distort = lambda row: {**row, "TIMESTAMP_X": "never"} if row["ID"] == "1" else row
    (pid,) = acme.poller.poll(LANE).opened
    assert acme.outcomes(pid) == {1: "failed", 2: "unfinished"}


def test_a_nacked_record_is_reserved_alone_and_retrying(acme: Deployment) -> None:
    acme.nacked("1", "2")
    opened = acme.poller.redrive(list(acme.queue.nacked()))
    assert len(opened) == 2
    assert [sent["filter"] for method, sent in acme.desk.calls if method == GET] == [{"=ID": 1}, {"=ID": 2}]
    settling = acme.ledger.begin_settle(opened[0])
    assert isinstance(settling, SettleLease)
    assert acme.ledger.kind(opened[0]) is BatchKind.RETRYING
    (handed,) = acme.ledger.start(opened[0])
    begun = acme.ledger.begin_step(handed.run, handed.attempt, 0)
    assert begun is not None
    assert begun.retrying


def test_records_that_keep_failing_do_not_keep_new_events_out(redis: Redis, tmp_path: Path) -> None:
    acme = Deployment(redis, tmp_path, B24_MAX_IN_FLIGHT_BATCHES="1")
    acme.nacked(*(str(number) for number in range(100, 100 + MAX_RETRYING_RECORDS + 1)))
    assert len(acme.poller.redrive(list(acme.queue.nacked()))) == MAX_RETRYING_RECORDS
    acme.changes("8", "9")
    assert acme.poller.poll(LANE).state == "opened"


def test_a_nacked_record_without_pipeline_stays_nacked(acme: Deployment) -> None:
    acme.nacked("1", name="ONCRMLEADADD")
    assert acme.poller.redrive(list(acme.queue.nacked())) == ()
    assert [(row.nacked, row.process_id) for row in acme.desk.rows().values()] == [(True, "")]


def test_a_nacked_record_that_somebody_took_is_skipped(acme: Deployment) -> None:
    acme.nacked("1", "2")
    due = list(acme.queue.nacked())
    reserve_nacked(acme.queue, 1)
    assert len(acme.poller.redrive(due)) == 1


def test_what_is_retrying_is_told_though_the_list_of_the_others_breaks_off(acme: Deployment) -> None:
    acme.nacked("1")

    def listed(record: Iterable[Record]) -> Iterator[Record]:
        yield from record
        raise RateLimited(PORTAL, 9.0)

    assert len(acme.poller.redrive(listed(list(acme.queue.nacked())))) == 1, "it waits for the sweep"
    with pytest.raises(RateLimited):
        acme.poller.redrive(listed([]))


@pytest.mark.parametrize(("policy", "settleable"), [("ack", True), ("nack", False)])
def test_only_what_is_acknowledged_without_a_route_settles_at_once(
    redis: Redis, tmp_path: Path, policy: str, settleable: bool
) -> None:
    acme = Deployment(redis, tmp_path, B24_UNROUTED=policy)
    acme.changes("1", name="ONCRMLEADADD")
    (pid,) = acme.poller.poll(LANE).opened
    assert acme.services.dispatcher.start(pid, lambda event, pipeline: False).settleable is settleable
    assert (acme.due_seconds(f"batch:{pid}") <= TIMERS.nack_age_seconds) is not settleable


def test_redrive_stops_where_a_poll_is_under_way(acme: Deployment) -> None:
    acme.nacked("1")
    assert isinstance(acme.fencing.take_poll_lease(None), PollLease)
    assert acme.poller.redrive(list(acme.queue.nacked())) == ()
    assert acme.fencing.in_doubt_until_ms([message_of(1)]) == {}
