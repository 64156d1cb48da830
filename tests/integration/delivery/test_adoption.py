"""The adoption of orphans: at once after an unanswered reserving call, else when they were seen long enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline import keys
from b24offline.delivery.poller import PollResult
from b24offline.errors import RateLimited, StoreError, UnknownAnswer
from b24offline.ledger import SettleLease, glances
from b24offline.monitoring.health_sample import take_sample
from tests.support.core_events import PORTAL, TIMERS, reserve, reserve_nacked
from tests.support.deployment import GET, LANE, LIST, Deployment, passed_on
from tests.support.portal_desk import CONNECTOR, refusal

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis


@pytest.fixture
def acme(redis: Redis, tmp_path: Path) -> Deployment:
    return Deployment(redis, tmp_path, B24_MAX_IN_FLIGHT_BATCHES="3")


def test_after_a_lost_answer_what_it_left_is_adopted_and_settled_at_once(acme: Deployment) -> None:
    acme.changes("1", "2")
    acme.desk.lose.append(GET)
    polled = acme.poller.poll(LANE)
    assert (polled.state, polled.received) == ("adopted", 1)
    (pid,) = polled.opened
    assert acme.desk.methods() == ["get", "list", "list"]
    assert acme.poller.poll(LANE).state == "busy", "no reserving call before the lease of the lost one ends"
    for one in acme.ledger.start(pid):
        acme.ledger.succeed(one.run, one.attempt)
    assert acme.settler.settle(pid).state == "closed", "it was in doubt"
    assert acme.desk.rows() == {}


def test_what_a_dead_poller_left_is_adopted_by_the_next_lease(acme: Deployment) -> None:
    acme.changes("1", "2")
    pid = acme.lost_reservation()
    assert acme.poller.poll(LANE).state == "busy"
    assert acme.poller.adopt() == (), "adopted beside a reserving call that may live"
    acme.later(TIMERS.poll_lease_seconds + 1)
    assert acme.poller.poll(LANE) == PollResult("adopted", 1, (pid,), 2)
    assert acme.outcomes(pid) == {1: "unfinished", 2: "unfinished"}
    assert acme.poller.adopt() == ()
    assert acme.poller.poll(LANE).state == "empty"
    assert acme.desk.methods().count("get") == 2


def test_what_a_call_reserves_long_after_it_was_sent_is_adopted_at_once(acme: Deployment) -> None:
    acme.lost_reservation(executed=False)
    acme.later(TIMERS.poll_lease_seconds + 1)
    assert acme.poller.poll(LANE).state == "empty"
    acme.later(25)
    acme.changes("1")
    late = reserve(acme.queue)
    assert late is not None
    assert acme.poller.adopt() == (late.process_id,)


def test_what_is_adopted_at_once_is_as_young_as_what_was_reserved(acme: Deployment) -> None:
    acme.changes("1")
    pid = acme.lost_reservation()
    acme.later(TIMERS.poll_lease_seconds + 1)
    assert acme.poller.poll(LANE).opened == (pid,)
    for one in acme.ledger.start(pid):
        acme.ledger.fail(one.run, one.attempt, "x", backoff_seconds=0)
    assert acme.settler.settle(pid).nacked == 0
    acme.later(TIMERS.nack_age_seconds + 1)
    assert acme.settler.settle(pid).nacked == 1


def test_nothing_is_adopted_where_orphans_are_not_claimed(redis: Redis, tmp_path: Path) -> None:
    acme = Deployment(redis, tmp_path, B24_CLAIM_ORPHANS="false")
    acme.changes("1")
    acme.desk.lose.append(GET)
    with pytest.raises(UnknownAnswer):
        acme.poller.poll(LANE)
    acme.later(TIMERS.poll_lease_seconds + 1)
    assert acme.poller.poll(LANE).state == "empty"


@pytest.mark.parametrize("cut", [RateLimited(PORTAL, 9.0), refusal(UnknownAnswer, LIST), StoreError("away")])
def test_a_look_that_is_cut_off_is_told_and_goes_on_there(
    acme: Deployment, caplog: pytest.LogCaptureFixture, cut: Exception
) -> None:
    acme.changes(*(str(number) for number in range(1, 131)))
    reserve(acme.queue, 130)
    acme.desk.waiting = lambda _: acme.desk.methods().count("list") == 2 and acme.desk.refuse.update({LIST: cut})
    assert acme.poller.adopt() == ()
    (line,) = [vars(one) for one in caplog.records if one.msg.startswith("look at reserved records cut off")]
    assert (line["portal"], line["why"]) == (PORTAL, str(cut))
    acme.desk.waiting = lambda _: None
    acme.later(TIMERS.sighting_seconds + 1)
    del acme.desk.calls[:]
    assert len(acme.poller.adopt()) == 1
    assert next(sent["filter"].get(">ID") for _, sent in acme.desk.calls) == 100


def test_an_orphan_that_no_call_explains_is_not_adopted_at_first_sight(acme: Deployment) -> None:
    acme.changes("1")
    reserve(acme.queue)
    assert acme.poller.adopt() == ()
    acme.later(TIMERS.sighting_seconds - 10)
    assert acme.poller.adopt() == ()
    acme.later(11)
    assert len(acme.poller.adopt()) == 1


def test_what_is_adopted_later_is_in_doubt(acme: Deployment) -> None:
    acme.changes("1")
    reserve(acme.queue)
    (pid,) = acme.adopted()
    assert set(acme.fencing.in_doubt_until_ms([message.message_id for message in acme.desk.rows().values()]))
    for one in acme.ledger.start(pid):
        acme.ledger.succeed(one.run, one.attempt)
    assert acme.settler.settle(pid).kept == 1
    acme.later(TIMERS.in_doubt_seconds + 1)
    assert acme.settler.settle(pid).state == "closed"
    assert acme.desk.rows() == {}


def test_adoption_opens_a_closed_process_id_again(acme: Deployment) -> None:
    acme.changes("1")
    (pid,) = acme.poller.poll(LANE).opened
    settling = acme.ledger.begin_settle(pid)
    assert isinstance(settling, SettleLease)
    acme.ledger.end_settle(settling, settling.outcomes, 1)
    assert acme.poller.adopt() == ()
    acme.later(TIMERS.sighting_seconds + 1)
    assert acme.poller.adopt() == (pid,)
    assert acme.outcomes(pid) == {1: "unfinished"}


def test_a_batch_of_ours_is_not_adopted(acme: Deployment) -> None:
    acme.changes("1")
    acme.poller.poll(LANE)
    for _ in range(3):
        acme.later(TIMERS.sighting_seconds + 1)
        assert acme.poller.adopt() == ()


def test_many_orphans_are_adopted_whole(acme: Deployment) -> None:
    acme.changes(*(str(number) for number in range(1, 121)))
    reserve(acme.queue, 120)
    (pid,) = acme.adopted()
    assert len(acme.ledger.events(pid)) == 120


def test_adoption_gives_its_lease_back_even_after_an_error(acme: Deployment) -> None:
    acme.desk.refuse["event.offline.list"] = refusal(UnknownAnswer, "event.offline.list")
    assert acme.poller.adopt() == ()
    assert acme.poller.poll(LANE).state == "empty"


def test_an_orphan_that_cannot_be_read_is_adopted_as_failed(acme: Deployment) -> None:
    acme.changes("1", "2")
    acme.lost_reservation()
    acme.desk.distort = lambda row: {**row, "EVENT_NAME": ""} if row["ID"] == "1" else row
    (pid,) = acme.adopted()
    assert acme.outcomes(pid) == {1: "failed", 2: "unfinished"}
    acme.later(TIMERS.in_doubt_seconds + 1)
    assert acme.settler.settle(pid).nacked == 1


def test_after_a_lost_answer_of_redrive_what_it_left_is_retrying_at_once(acme: Deployment) -> None:
    acme.nacked("1")
    acme.desk.lose.append(GET)
    (pid,) = acme.poller.redrive(list(acme.queue.nacked()))
    assert acme.poller.poll(LANE).state == "busy"
    (handed,) = acme.ledger.start(pid)
    begun = acme.ledger.begin_step(handed.run, handed.attempt, 0)
    assert begun is not None
    assert begun.retrying, "an adopted nacked record was taken for a new one"


def test_a_nacked_orphan_without_pipeline_waits_for_a_worker_with_its_route(
    acme: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    acme.nacked("1", name="ONCRMLEADADD")
    reserved = reserve_nacked(acme.queue, 1)
    assert reserved is not None
    assert acme.adopted() == ()
    (line,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert (line.message.partition(",")[0], line.__dict__["events"]) == ("orphan not adopted", ["ONCRMLEADADD"])
    assert acme.redis.exists(keys.orphans(acme.ledger.stem)), "nobody is told of it"
    acme.routes.add(passed_on, ("ONCRMLEADADD",), "lead_added")
    assert acme.poller.adopt() == (reserved.process_id,)
    assert acme.outcomes(reserved.process_id) == {1: "unfinished"}


def test_of_an_orphan_all_but_such_records_are_adopted(acme: Deployment) -> None:
    acme.nacked("1", name="ONCRMLEADADD")
    reserved = reserve_nacked(acme.queue, 1)
    assert reserved is not None
    acme.changes("2")
    acme.desk.queue.move(acme.desk.now, acme.desk.rows().values(), reserved.process_id)
    assert acme.adopted() == (reserved.process_id,)
    assert acme.outcomes(reserved.process_id) == {2: "unfinished"}


def test_reserved_records_that_cannot_be_read_are_counted_until_they_are_gone(acme: Deployment) -> None:
    acme.changes("1", "2")
    acme.desk.distort = lambda row: {**row, "MESSAGE_ID": "?"} if row["ID"] == "1" else row
    (pid,) = acme.poller.poll(LANE).opened
    acme.poller.adopt()
    assert take_sample(acme.redis, acme.ledger).unreadable == 1
    acme.desk.queue.clear_ids(acme.desk.now, CONNECTOR, pid, frozenset([1]))
    acme.poller.adopt()
    assert take_sample(acme.redis, acme.ledger).unreadable == 0


@pytest.mark.parametrize("what", ["unreadable", "more than asked for"])
def test_what_a_reserving_call_brought_beside_its_batch_is_looked_for(acme: Deployment, what: str) -> None:
    """It becomes an orphan when the batch is closed."""
    acme.changes("1", "2", "3")

    def lost_ms() -> int:
        return glances(acme.redis, acme.ledger.key_prefix, [PORTAL])[PORTAL].lost_ms

    assert not lost_ms()
    if what == "unreadable":
        acme.desk.distort = lambda row: {**row, "MESSAGE_ID": "?"} if row["ID"] == "1" else row
    else:
        acme.desk.surplus = 1
    assert acme.poller.poll(LANE).state == "opened"
    assert lost_ms()
