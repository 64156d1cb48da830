"""The ways into the ledger: polls, adoption of orphans, redrive; each under the poll lease."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet

from b24offline.config import Lane
from b24offline.delivery import Settler
from b24offline.delivery.poller import UNROUTED_LOG_SECONDS, Poller, PollResult
from b24offline.errors import QueryLimitExceeded, RateLimited, StoreError, UnknownAnswer
from b24offline.events import Routes, shipped_catalogue
from b24offline.ledger import BatchKind, PollLease, SettleLease
from b24offline.ledger.fencing import MAX_RETRYING_RECORDS
from b24offline.monitoring.health_sample import take_sample
from b24offline.rest import OfflineQueue
from b24offline.store import Cipher, Store
from tests.support.core_events import (
    PORTAL,
    TIMERS,
    guard_on,
    ledger_on,
    message_of,
    pass_time,
    reserve,
    reserve_nacked,
)
from tests.support.portal_desk import CONNECTOR, PortalDesk, refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from redis import Redis

    from b24offline.events import Event, Record

LANE = Lane(name="default", batch_size=2)

GET = "event.offline.get"


def pipeline(event: Event) -> object:
    return event


class Bench:
    """A portal, the ledger, and the poller between them. The store is a real one in a file."""

    def __init__(self, redis: Redis, folder: Path, *, gate: int = 3, unrouted: Any = "ack") -> None:
        self.redis = redis
        self.desk = PortalDesk()
        self.ledger = ledger_on(redis)
        self.fencing = guard_on(redis, self.ledger, gate=gate)
        self.queue = OfflineQueue(self.desk, PORTAL, CONNECTOR)
        self.store = Store(f"sqlite:///{folder}/store.db", Cipher([Fernet.generate_key().decode()]))
        self.store.create_schema()
        self.store.portals.seed(
            PORTAL,
            client_endpoint="https://acme.example/rest/",
            auth_url="https://auth.example/",
            client_id="id",
            client_secret="secret",
            connector=CONNECTOR,
        )
        self.routes = routes = Routes()
        routes.add(pipeline, ("ONCRMDEALUPDATE",), "deal_changed")
        self.poller = Poller(
            portal=PORTAL,
            queue=self.queue,
            ledger=self.ledger,
            fencing=self.fencing,
            store=self.store,
            catalogue=shipped_catalogue(),
            routes=routes,
            unrouted=unrouted,
        )
        self.settler = Settler(self.ledger, self.fencing, self.queue, TIMERS)
        # The first poll of all looks whose the queue is; see test_takeover.
        self.poller.poll(LANE)
        self.desk.calls.clear()

    def later(self, seconds: float) -> None:
        pass_time(self.redis, self.ledger, seconds)

    def changes(self, *deals: str) -> None:
        for deal in deals:
            self.desk.change(deal)

    def outcomes(self, process_id: str) -> dict[int, str]:
        settling = self.ledger.begin_settle(process_id)
        assert isinstance(settling, SettleLease)
        self.ledger.end_settle(settling, (), 1)
        return dict(settling.outcomes)

    def lost_reservation(self) -> str:
        """Return a reserving call whose answer was lost after the portal had carried it out; answers its process id."""
        self.desk.lose.append(GET)
        with pytest.raises(UnknownAnswer):
            self.poller.poll(LANE)
        (process_id,) = {row.process_id for row in self.desk.rows().values()} - {""}
        return process_id

    def adopted(self) -> tuple[str, ...]:
        """Adoption in its two looks, once the lease of a lost call has run out."""
        self.later(TIMERS.poll_lease_seconds + 1)
        assert self.poller.adopt() == ()
        self.later(TIMERS.sighting_seconds + 1)
        return self.poller.adopt()


@pytest.fixture
def bench(redis: Redis, tmp_path: Path) -> Bench:
    return Bench(redis, tmp_path)


def test_a_poll_reserves_and_opens_one_batch(bench: Bench) -> None:
    bench.changes("1", "2", "3")
    polled = bench.poller.poll(LANE)
    (pid,) = polled.opened
    assert polled == PollResult("opened", 2, (pid,))
    assert bench.desk.methods() == ["get"]
    assert list(bench.ledger.open_batches()) == [pid]
    assert {one.object.object_id for one in bench.ledger.events(pid).values() if one.object} == {"1", "2"}
    assert len(bench.ledger.start(pid)) == 2
    assert bench.poller.poll(LANE).received == 1


def test_an_empty_queue_gives_the_lease_back(bench: Bench) -> None:
    assert bench.poller.poll(LANE) == PollResult("empty")
    assert bench.poller.poll(LANE) == PollResult("empty")
    assert bench.desk.methods() == ["get", "get"]
    assert bench.ledger.open_batches() == {}


def test_the_epoch_is_in_the_store_before_the_call_is_sent(bench: Bench) -> None:
    bench.store.portals.set_epoch(PORTAL, None)
    seen = {}
    bench.desk.before = lambda method: seen.update({method: bench.store.portals.get(PORTAL).ledger_epoch})
    bench.poller.poll(LANE)
    assert seen["event.offline.list"] is None
    assert str(seen[GET]) == bench.redis.hget(f"{bench.ledger.stem}:fencing", "epoch")


def test_while_another_reserving_call_is_under_way_none_is_sent(bench: Bench) -> None:
    bench.changes("1")
    answers = []
    bench.desk.before = lambda method: answers.append(bench.poller.poll(LANE).state) if not answers else None
    assert bench.poller.poll(LANE).state == "opened"
    assert answers == ["busy"]
    assert bench.desk.methods() == ["get"]


def test_too_many_open_batches_send_none(bench: Bench) -> None:
    bench.changes(*"1234567")
    assert [bench.poller.poll(LANE).state for _ in range(4)] == ["opened", "opened", "opened", "full"]
    assert bench.desk.methods() == ["get"] * 3


def test_after_loss_of_the_ledger_none_is_sent_for_a_while(bench: Bench) -> None:
    bench.poller.poll(LANE)
    bench.redis.flushall()
    bench.changes("1")
    assert bench.poller.poll(LANE).state == "recovering"
    assert bench.poller.adopt() == ()
    assert bench.desk.methods() == ["get"]
    bench.later(TIMERS.recovery_seconds + 1)
    assert bench.poller.poll(LANE).state == "opened"


def test_a_lost_answer_keeps_the_lease_and_adoption_brings_the_records_back(bench: Bench) -> None:
    bench.changes("1", "2")
    pid = bench.lost_reservation()
    assert bench.poller.poll(LANE).state == "busy"
    assert bench.poller.adopt() == (), "adopted beside a reserving call that may live"
    assert bench.adopted() == (pid,)
    assert bench.outcomes(pid) == {1: "unfinished", 2: "unfinished"}
    assert len(bench.ledger.start(pid)) == 2
    assert bench.poller.adopt() == ()
    assert bench.desk.methods().count("get") == 1


def test_an_orphan_is_not_adopted_at_first_sight(bench: Bench) -> None:
    bench.changes("1")
    bench.lost_reservation()
    bench.later(TIMERS.poll_lease_seconds + 1)
    assert bench.poller.adopt() == ()
    bench.later(TIMERS.sighting_seconds - 10)
    assert bench.poller.adopt() == ()
    bench.later(11)
    assert len(bench.poller.adopt()) == 1


def test_an_adopted_batch_is_in_doubt_and_counts_as_old_as_its_first_sight(bench: Bench) -> None:
    bench.changes("1")
    pid = bench.lost_reservation()
    bench.adopted()
    assert set(bench.fencing.in_doubt_until_ms([message.message_id for message in bench.desk.rows().values()]))
    for one in bench.ledger.start(pid):
        bench.ledger.succeed(one.run, one.attempt)
    assert bench.settler.settle(pid).kept == 1
    bench.later(TIMERS.in_doubt_seconds + 1)
    assert bench.settler.settle(pid).state == "closed"
    assert bench.desk.rows() == {}


def test_adoption_opens_a_closed_process_id_again(bench: Bench) -> None:
    bench.changes("1")
    (pid,) = bench.poller.poll(LANE).opened
    settling = bench.ledger.begin_settle(pid)
    assert isinstance(settling, SettleLease)
    bench.ledger.end_settle(settling, settling.outcomes, 1)
    assert bench.poller.adopt() == ()
    bench.later(TIMERS.sighting_seconds + 1)
    assert bench.poller.adopt() == (pid,)
    assert bench.outcomes(pid) == {1: "unfinished"}


def test_a_batch_of_ours_is_not_adopted(bench: Bench) -> None:
    bench.changes("1")
    bench.poller.poll(LANE)
    for _ in range(3):
        bench.later(TIMERS.sighting_seconds + 1)
        assert bench.poller.adopt() == ()


def test_many_orphans_are_adopted_whole(bench: Bench) -> None:
    bench.changes(*(str(number) for number in range(1, 121)))
    reserve(bench.queue, 120)
    (pid,) = bench.adopted()
    assert len(bench.ledger.events(pid)) == 120


def test_adoption_gives_its_lease_back_even_after_an_error(bench: Bench) -> None:
    bench.desk.refuse["event.offline.list"] = refusal(UnknownAnswer, "event.offline.list")
    with pytest.raises(UnknownAnswer):
        bench.poller.adopt()
    assert bench.poller.poll(LANE).state == "empty"


@pytest.mark.parametrize("error", [refusal(QueryLimitExceeded, GET), RateLimited(PORTAL, 9.0), StoreError("away")])
def test_a_call_that_was_surely_not_executed_gives_the_lease_back(bench: Bench, error: Exception) -> None:
    bench.desk.refuse[GET] = error
    with pytest.raises(type(error)):
        bench.poller.poll(LANE)
    assert bench.poller.poll(LANE).state == "empty"


def test_a_lease_lost_during_the_call_opens_nothing(bench: Bench) -> None:
    bench.changes("1")

    def slow(method: str) -> None:
        if method == GET:
            bench.later(TIMERS.poll_lease_seconds + 1)
            epoch = bench.store.portals.get(PORTAL).ledger_epoch
            assert isinstance(bench.fencing.take_poll_lease(epoch), PollLease)

    bench.desk.before = slow
    bench.poller.poll(LANE)
    assert bench.ledger.open_batches() == {}
    bench.desk.before = lambda method: None
    assert len(bench.adopted()) == 1


@pytest.mark.parametrize(("policy", "outcome"), [("ack", "succeeded"), ("nack", "failed")])
def test_an_event_without_route_follows_the_policy(redis: Redis, tmp_path: Path, policy: str, outcome: str) -> None:
    bench = Bench(redis, tmp_path, unrouted=policy)
    bench.desk.change("1", "ONCRMLEADADD")
    (pid,) = bench.poller.poll(LANE).opened
    assert bench.outcomes(pid) == {1: outcome}
    assert bench.ledger.counters()["events_unrouted"] == 1


def test_of_an_event_acknowledged_without_a_route_each_process_tells_once_an_hour(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reply: dict[str, float] = {}
    monkeypatch.setattr("b24offline.delivery.poller._logged_at", reply)
    for deal, name in enumerate(("ONCRMLEADADD", "ONCRMDEALUPDATE", "ONCRMLEADADD", "ONCRMLEADADD"), 1):
        if deal == 4:
            reply["ONCRMLEADADD"] -= UNROUTED_LOG_SECONDS
        bench.desk.change(str(deal), name)
        bench.settler.settle(*bench.poller.poll(LANE).opened)
    lines = [vars(one)["event"] for one in caplog.records if one.msg == "event without a route acknowledged"]
    assert lines == ["ONCRMLEADADD", "ONCRMLEADADD"]


def test_an_event_nacked_for_want_of_a_route_is_told_as_such(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("b24offline.delivery.poller._logged_at", {})
    bench = Bench(redis, tmp_path, unrouted="nack")
    bench.desk.change("1", "ONCRMLEADADD")
    assert bench.poller.poll(LANE).opened
    assert [one.msg for one in caplog.records if one.levelname == "WARNING"] == ["event without a route nacked"]


def test_rows_that_cannot_be_read_fail_alone(bench: Bench) -> None:
    bench.changes("1", "2")
    bench.desk.distort = lambda row: {**row, "TIMESTAMP_X": "never"} if row["ID"] == "1" else row
    (pid,) = bench.poller.poll(LANE).opened
    assert bench.outcomes(pid) == {1: "failed", 2: "unfinished"}


def test_an_orphan_that_cannot_be_read_is_adopted_as_failed(bench: Bench) -> None:
    bench.changes("1", "2")
    bench.lost_reservation()
    bench.desk.distort = lambda row: {**row, "EVENT_NAME": ""} if row["ID"] == "1" else row
    (pid,) = bench.adopted()
    assert bench.outcomes(pid) == {1: "failed", 2: "unfinished"}
    bench.later(TIMERS.in_doubt_seconds + 1)
    assert bench.settler.settle(pid).nacked == 1


def nacked(bench: Bench, *deals: str, name: str = "ONCRMDEALUPDATE") -> None:
    for deal in deals:
        bench.desk.change(deal, name)
    for row in list(bench.desk.rows().values()):
        bench.desk.queue.mark(bench.desk.now, row)


def test_a_nacked_record_is_reserved_alone_and_retrying(bench: Bench) -> None:
    nacked(bench, "1", "2")
    opened = bench.poller.redrive(list(bench.queue.nacked()))
    assert len(opened) == 2
    assert [sent["filter"] for method, sent in bench.desk.calls if method == GET] == [{"=ID": 1}, {"=ID": 2}]
    settling = bench.ledger.begin_settle(opened[0])
    assert isinstance(settling, SettleLease)
    assert bench.ledger.kind(opened[0]) is BatchKind.RETRYING
    (handed,) = bench.ledger.start(opened[0])
    begun = bench.ledger.begin_step(handed.run, handed.attempt, 0)
    assert begun is not None
    assert begun.retrying


def test_records_that_keep_failing_do_not_keep_new_events_out(redis: Redis, tmp_path: Path) -> None:
    bench = Bench(redis, tmp_path, gate=1)
    nacked(bench, *(str(number) for number in range(100, 100 + MAX_RETRYING_RECORDS + 1)))
    assert len(bench.poller.redrive(list(bench.queue.nacked()))) == MAX_RETRYING_RECORDS
    bench.changes("8", "9")
    assert bench.poller.poll(LANE).state == "opened"


def test_a_nacked_record_without_pipeline_stays_nacked(bench: Bench) -> None:
    nacked(bench, "1", name="ONCRMLEADADD")
    assert bench.poller.redrive(list(bench.queue.nacked())) == ()
    assert [(row.nacked, row.process_id) for row in bench.desk.rows().values()] == [(True, "")]


def test_a_nacked_record_that_somebody_took_is_skipped(bench: Bench) -> None:
    nacked(bench, "1", "2")
    due = list(bench.queue.nacked())
    reserve_nacked(bench.queue, 1)
    assert len(bench.poller.redrive(due)) == 1


def test_what_is_retrying_is_told_though_the_list_of_the_others_breaks_off(bench: Bench) -> None:
    nacked(bench, "1")

    def listed(record: Iterable[Record]) -> Iterator[Record]:
        yield from record
        raise RateLimited(PORTAL, 9.0)

    assert len(bench.poller.redrive(listed(list(bench.queue.nacked())))) == 1, "it waits for the sweep"
    with pytest.raises(RateLimited):
        bench.poller.redrive(listed([]))


def test_an_unknown_answer_of_redrive_keeps_the_lease(bench: Bench) -> None:
    nacked(bench, "1")
    bench.desk.lose.append(GET)
    with pytest.raises(UnknownAnswer):
        bench.poller.redrive(list(bench.queue.nacked()))
    assert bench.poller.poll(LANE).state == "busy"
    (pid,) = bench.adopted()
    (handed,) = bench.ledger.start(pid)
    begun = bench.ledger.begin_step(handed.run, handed.attempt, 0)
    assert begun is not None
    assert begun.retrying, "an adopted nacked record was taken for a new one"


def test_a_nacked_orphan_without_pipeline_waits_for_a_worker_with_its_route(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    nacked(bench, "1", name="ONCRMLEADADD")
    reserved = reserve_nacked(bench.queue, 1)
    assert reserved is not None
    assert bench.adopted() == ()
    (line,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert (line.message.partition(",")[0], line.__dict__["events"]) == ("orphan not adopted", ["ONCRMLEADADD"])
    assert bench.fencing.has_orphans(), "nobody is told of it"
    bench.routes.add(pipeline, ("ONCRMLEADADD",), "lead_added")
    assert bench.poller.adopt() == (reserved.process_id,)
    assert bench.outcomes(reserved.process_id) == {1: "unfinished"}


def test_of_an_orphan_all_but_such_records_are_adopted(bench: Bench) -> None:
    nacked(bench, "1", name="ONCRMLEADADD")
    reserved = reserve_nacked(bench.queue, 1)
    assert reserved is not None
    bench.changes("2")
    bench.desk.queue.move(bench.desk.now, bench.desk.rows().values(), reserved.process_id)
    assert bench.adopted() == (reserved.process_id,)
    assert bench.outcomes(reserved.process_id) == {2: "unfinished"}


def test_a_batch_without_routes_is_nacked_in_a_few_calls(redis: Redis, tmp_path: Path) -> None:
    bench = Bench(redis, tmp_path, unrouted="nack")
    bench.desk.change("1", "ONCRMLEADADD")
    bench.desk.change("2", "ONCRMLEADADD")
    (pid,) = bench.poller.poll(LANE).opened
    bench.later(TIMERS.nack_age_seconds + 1)
    assert bench.ledger.take_overdue().batches == (pid,)
    assert bench.settler.settle(pid).nacked == 2
    assert bench.settler.settle(pid).state == "closed"
    assert bench.desk.methods() == ["get", "list", "list", "error", "list"]


def test_redrive_stops_where_a_poll_is_under_way(bench: Bench) -> None:
    nacked(bench, "1")
    assert isinstance(bench.fencing.take_poll_lease(None), PollLease)
    assert bench.poller.redrive(list(bench.queue.nacked())) == ()
    assert bench.fencing.in_doubt_until_ms([message_of(1)]) == {}


def test_reserved_records_that_cannot_be_read_are_counted_until_they_are_gone(bench: Bench) -> None:
    bench.changes("1", "2")
    bench.desk.distort = lambda row: {**row, "MESSAGE_ID": "?"} if row["ID"] == "1" else row
    (pid,) = bench.poller.poll(LANE).opened
    bench.poller.adopt()
    assert take_sample(bench.redis, bench.ledger, "b24offline").unreadable == 1
    bench.desk.queue.clear_ids(bench.desk.now, CONNECTOR, pid, frozenset([1]))
    bench.poller.adopt()
    assert take_sample(bench.redis, bench.ledger, "b24offline").unreadable == 0
