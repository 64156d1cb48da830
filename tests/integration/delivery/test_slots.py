"""A call may wait for its turn and for a token. What gives the right to it is looked at when it is sent, not before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline.delivery.poller import PollResult
from b24offline.errors import ExpiredToken
from b24offline.ledger import PollLease
from tests.integration.delivery.test_poller import GET, LANE
from tests.integration.delivery.test_poller import Bench as PollBench
from tests.integration.delivery.test_settler import Bench
from tests.support.core_events import PORTAL, TIMERS

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

CLEAR, ERROR = "event.offline.clear", "event.offline.error"
OLD_SECONDS = TIMERS.nack_age_seconds + 1


@pytest.fixture
def bench(redis: Redis) -> Bench:
    return Bench(redis)


@pytest.fixture
def polls(redis: Redis, tmp_path: Path) -> PollBench:
    return PollBench(redis, tmp_path)


def waits(bench: Bench | PollBench, method: str, seconds: float) -> None:
    bench.desk.waiting = lambda name: bench.later(seconds) if name == method else None


def lease_left_when_sent(polls: PollBench) -> list[float]:
    """Fill with the seconds left of the poll lease, one for each reserving call at its sending."""
    left: list[float] = []
    polls.desk.before = lambda name: left.append(polls.fencing.poll_lease_left_seconds()) if name == GET else None
    return left


@pytest.mark.parametrize(("outcomes", "method"), [("s", CLEAR), ("f", ERROR)])
def test_nothing_is_settled_when_the_lease_ran_out_meanwhile(bench: Bench, outcomes: str, method: str) -> None:
    pid = bench.batch(outcomes)
    bench.later(OLD_SECONDS)
    waits(bench, method, TIMERS.settle_lease_seconds + 1)
    reply = bench.settle(pid)
    assert (reply.state, reply.acknowledged, reply.nacked) == ("lost", 0, 0)
    assert method.rpartition(".")[2] not in bench.desk.methods()
    assert [one for one in bench.desk.rows().values() if one.nacked] == []


def test_nothing_is_reported_on_a_look_that_became_old_meanwhile(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = bench.batch("f")
    bench.later(OLD_SECONDS)
    clock, turn_ms = bench.ledger.now_ms, round(TIMERS.settle_lease_seconds * 500) + 1

    def waited(method: str) -> None:
        if method == ERROR:
            monkeypatch.setattr(bench.ledger, "now_ms", lambda: clock() + turn_ms)

    bench.desk.waiting = waited
    assert bench.settle(pid).nacked == 0
    assert "error" not in bench.desk.methods()
    message = bench.desk.rows()[1].message_id
    assert not bench.fencing.in_doubt_until_ms({message})


def test_the_in_doubt_period_begins_with_the_call(bench: Bench) -> None:
    pid = bench.batch("f")
    bench.later(OLD_SECONDS)
    waits(bench, ERROR, TIMERS.settle_lease_seconds / 3)
    message = bench.desk.rows()[1].message_id
    sent: list[int] = []
    bench.desk.before = lambda name: sent.append(bench.ledger.now_ms()) if name == ERROR else None
    assert bench.settle(pid).nacked == 1
    assert bench.fencing.in_doubt_until_ms({message})[message] - sent[0] >= (TIMERS.in_doubt_seconds - 1) * 1000


def test_nothing_is_reserved_when_somebody_else_has_the_lease_by_then(polls: PollBench) -> None:
    polls.changes("1")

    def taken(method: str) -> None:
        if method == GET:
            polls.later(TIMERS.poll_lease_seconds + 1)
            epoch = polls.store.portals.get(PORTAL).ledger_epoch
            assert isinstance(polls.fencing.take_poll_lease(epoch), PollLease)

    polls.desk.waiting = taken
    assert polls.poller.poll(LANE) == PollResult("busy")
    assert polls.desk.methods() == []
    assert {row.process_id for row in polls.desk.rows().values()} == {""}


def test_the_poll_lease_begins_with_the_call(polls: PollBench) -> None:
    """It is as long as the longest call; what the call waited for its turn must not be missing at its end."""
    polls.changes("1")
    left = lease_left_when_sent(polls)
    waits(polls, GET, TIMERS.poll_lease_seconds - 1)
    assert polls.poller.poll(LANE).state == "opened"
    assert left == [pytest.approx(TIMERS.poll_lease_seconds, abs=1)]
    assert len(polls.ledger.open_batches()) == 1


def test_a_redrive_reserves_nothing_when_the_lease_is_another_ones(polls: PollBench) -> None:
    polls.changes("1")
    (row,) = polls.desk.rows().values()
    polls.desk.queue.mark(polls.desk.now, row)
    (record,) = polls.queue.nacked()

    def taken(method: str) -> None:
        polls.later(TIMERS.poll_lease_seconds + 1)
        assert isinstance(polls.fencing.take_poll_lease(polls.store.portals.get(PORTAL).ledger_epoch), PollLease)

    polls.desk.waiting = lambda name: taken(name) if name == GET else None
    assert polls.poller.redrive([record]) == ()
    assert "get" not in polls.desk.methods()


@pytest.mark.parametrize(("outcomes", "method"), [("s", CLEAR), ("f", ERROR)])
def test_an_expired_token_is_met_by_a_new_proof_at_once(bench: Bench, outcomes: str, method: str) -> None:
    pid = bench.batch(outcomes)
    bench.later(OLD_SECONDS)
    bench.desk.refuse[method] = ExpiredToken(PORTAL, method, 401, "expired_token", "")
    # The second turn takes a third of the lease: what is sent then must not rest on what was noted for the first one.
    bench.desk.waiting = lambda name: bench.later(TIMERS.settle_lease_seconds / 3) if name == method else None
    message = bench.desk.rows()[1].message_id
    sent: list[int] = []
    bench.desk.before = lambda name: sent.append(bench.ledger.now_ms()) if name == method else None
    reply = bench.settle(pid)
    assert (reply.acknowledged, reply.nacked) == ((1, 0) if outcomes == "s" else (0, 1))
    assert bench.desk.methods().count(method.rpartition(".")[2]) == 2
    if method == ERROR:
        assert bench.fencing.in_doubt_until_ms({message})[message] - sent[-1] >= (TIMERS.in_doubt_seconds - 1) * 1000


@pytest.mark.parametrize(("outcomes", "method"), [("s", CLEAR), ("f", ERROR)])
def test_after_an_expired_token_nothing_is_sent_on_a_lease_that_ran_out(
    bench: Bench, outcomes: str, method: str
) -> None:
    pid = bench.batch(outcomes)
    bench.later(OLD_SECONDS)
    bench.desk.refuse[method] = ExpiredToken(PORTAL, method, 401, "expired_token", "")
    waits = iter([0.0, TIMERS.settle_lease_seconds + 1])
    bench.desk.waiting = lambda name: bench.later(next(waits)) if name == method else None
    assert bench.settle(pid).state == "lost"
    assert bench.desk.methods().count(method.rpartition(".")[2]) == 1
    assert [one for one in bench.desk.rows().values() if one.nacked] == []


def test_a_token_that_expires_again_ends_the_settle(bench: Bench) -> None:
    pid = bench.batch("s")
    expired = ExpiredToken(PORTAL, CLEAR, 401, "expired_token", "")
    bench.desk.before = lambda name: bench.desk.refuse.update({CLEAR: expired})
    with pytest.raises(ExpiredToken):
        bench.settle(pid)
    assert bench.desk.methods() == ["clear", "clear"]


def test_an_expired_token_is_met_by_a_poll_at_once_under_a_lease_begun_anew(polls: PollBench) -> None:
    polls.changes("1")
    polls.desk.refuse[GET] = ExpiredToken(PORTAL, GET, 401, "expired_token", "")
    left = lease_left_when_sent(polls)
    waits(polls, GET, TIMERS.poll_lease_seconds - 1)
    assert polls.poller.poll(LANE).state == "opened"
    assert left == [pytest.approx(TIMERS.poll_lease_seconds, abs=1)] * 2


def test_after_an_expired_token_nothing_is_reserved_when_somebody_else_has_the_lease(polls: PollBench) -> None:
    polls.changes("1")
    polls.desk.refuse[GET] = ExpiredToken(PORTAL, GET, 401, "expired_token", "")
    turns = iter([False, True])

    def taken(method: str) -> None:
        if method == GET and next(turns):
            polls.later(TIMERS.poll_lease_seconds + 1)
            epoch = polls.store.portals.get(PORTAL).ledger_epoch
            assert isinstance(polls.fencing.take_poll_lease(epoch), PollLease)

    polls.desk.waiting = taken
    assert polls.poller.poll(LANE) == PollResult("busy")
    assert polls.desk.methods().count("get") == 1
    assert {row.process_id for row in polls.desk.rows().values()} == {""}
