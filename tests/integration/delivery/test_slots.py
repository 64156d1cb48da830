"""A call may wait for its turn and for a token. What gives the right to it is looked at when it is sent, not before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline.errors import ExpiredToken
from b24offline.ledger import PollLease
from tests.support.core_events import PORTAL, TIMERS
from tests.support.deployment import GET, LANE, Deployment

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

CLEAR, ERROR = "event.offline.clear", "event.offline.error"
OLD_SECONDS = TIMERS.nack_age_seconds + 1


@pytest.fixture
def acme(redis: Redis, tmp_path: Path) -> Deployment:
    return Deployment(redis, tmp_path)


def waits(acme: Deployment, method: str, seconds: float) -> None:
    acme.desk.waiting = lambda name: acme.later(seconds) if name == method else None


def lease_left_when_sent(acme: Deployment) -> list[float]:
    """Fill with the seconds left of the poll lease, one for each reserving call at its sending."""
    left: list[float] = []
    acme.desk.before = lambda name: left.append(acme.fencing.poll_lease_left_seconds()) if name == GET else None
    return left


@pytest.mark.parametrize(("outcomes", "method"), [("s", CLEAR), ("f", ERROR)])
def test_nothing_is_settled_when_the_lease_ran_out_meanwhile(acme: Deployment, outcomes: str, method: str) -> None:
    pid = acme.batch(outcomes)
    acme.later(OLD_SECONDS)
    waits(acme, method, TIMERS.settle_lease_seconds + 1)
    reply = acme.settler.settle(pid)
    assert (reply.state, reply.acknowledged, reply.nacked) == ("lost", 0, 0)
    assert method.rpartition(".")[2] not in acme.desk.methods()
    assert [one for one in acme.desk.rows().values() if one.nacked] == []


def test_nothing_is_reported_on_a_look_that_became_old_meanwhile(
    acme: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = acme.batch("f")
    acme.later(OLD_SECONDS)
    clock, turn_ms = acme.ledger.now_ms, round(TIMERS.settle_lease_seconds * 500) + 1

    def waited(method: str) -> None:
        if method == ERROR:
            monkeypatch.setattr(acme.ledger, "now_ms", lambda: clock() + turn_ms)

    acme.desk.waiting = waited
    assert acme.settler.settle(pid).nacked == 0
    assert "error" not in acme.desk.methods()
    message = acme.desk.rows()[1].message_id
    assert not acme.fencing.in_doubt_until_ms({message})


def test_the_in_doubt_period_begins_with_the_call(acme: Deployment) -> None:
    pid = acme.batch("f")
    acme.later(OLD_SECONDS)
    waits(acme, ERROR, TIMERS.settle_lease_seconds / 3)
    message = acme.desk.rows()[1].message_id
    sent: list[int] = []
    acme.desk.before = lambda name: sent.append(acme.ledger.now_ms()) if name == ERROR else None
    assert acme.settler.settle(pid).nacked == 1
    assert acme.fencing.in_doubt_until_ms({message})[message] - sent[0] >= (TIMERS.in_doubt_seconds - 1) * 1000


def test_nothing_is_reserved_when_somebody_else_has_the_lease_by_then(acme: Deployment) -> None:
    acme.changes("1")

    def taken(method: str) -> None:
        if method == GET:
            acme.later(TIMERS.poll_lease_seconds + 1)
            epoch = acme.store.portals.get(PORTAL).ledger_epoch
            assert isinstance(acme.fencing.take_poll_lease(epoch), PollLease)

    acme.desk.waiting = taken
    assert acme.poller.poll(LANE).state == "busy"
    assert acme.desk.methods() == []
    assert {row.process_id for row in acme.desk.rows().values()} == {""}


def test_the_poll_lease_begins_with_the_call(acme: Deployment) -> None:
    """It is as long as the longest call; what the call waited for its turn must not be missing at its end."""
    acme.changes("1")
    left = lease_left_when_sent(acme)
    waits(acme, GET, TIMERS.poll_lease_seconds - 1)
    assert acme.poller.poll(LANE).state == "opened"
    assert left == [pytest.approx(TIMERS.poll_lease_seconds, abs=1)]
    assert len(acme.ledger.open_batches()) == 1


@pytest.mark.parametrize(("outcomes", "method"), [("s", CLEAR), ("f", ERROR)])
def test_an_expired_token_is_met_by_a_new_proof_at_once(acme: Deployment, outcomes: str, method: str) -> None:
    pid = acme.batch(outcomes)
    acme.later(OLD_SECONDS)
    acme.desk.refuse[method] = ExpiredToken(PORTAL, method, 401, "expired_token", "")
    # The second turn takes a third of the lease: what is sent then must not rest on what was noted for the first one.
    acme.desk.waiting = lambda name: acme.later(TIMERS.settle_lease_seconds / 3) if name == method else None
    message = acme.desk.rows()[1].message_id
    sent: list[int] = []
    acme.desk.before = lambda name: sent.append(acme.ledger.now_ms()) if name == method else None
    reply = acme.settler.settle(pid)
    assert (reply.acknowledged, reply.nacked) == ((1, 0) if outcomes == "s" else (0, 1))
    assert acme.desk.methods().count(method.rpartition(".")[2]) == 2
    if method == ERROR:
        assert acme.fencing.in_doubt_until_ms({message})[message] - sent[-1] >= (TIMERS.in_doubt_seconds - 1) * 1000


@pytest.mark.parametrize(("outcomes", "method"), [("s", CLEAR), ("f", ERROR)])
def test_after_an_expired_token_nothing_is_sent_on_a_lease_that_ran_out(
    acme: Deployment, outcomes: str, method: str
) -> None:
    pid = acme.batch(outcomes)
    acme.later(OLD_SECONDS)
    acme.desk.refuse[method] = ExpiredToken(PORTAL, method, 401, "expired_token", "")
    waits = iter([0.0, TIMERS.settle_lease_seconds + 1])
    acme.desk.waiting = lambda name: acme.later(next(waits)) if name == method else None
    assert acme.settler.settle(pid).state == "lost"
    assert acme.desk.methods().count(method.rpartition(".")[2]) == 1
    assert [one for one in acme.desk.rows().values() if one.nacked] == []


def test_a_token_that_expires_again_ends_the_settle(acme: Deployment) -> None:
    pid = acme.batch("s")
    expired = ExpiredToken(PORTAL, CLEAR, 401, "expired_token", "")
    acme.desk.before = lambda name: acme.desk.refuse.update({CLEAR: expired})
    with pytest.raises(ExpiredToken):
        acme.settler.settle(pid)
    assert acme.desk.methods() == ["clear", "clear"]


def test_an_expired_token_is_met_by_a_poll_at_once_under_a_lease_begun_anew(acme: Deployment) -> None:
    acme.changes("1")
    acme.desk.refuse[GET] = ExpiredToken(PORTAL, GET, 401, "expired_token", "")
    left = lease_left_when_sent(acme)
    waits(acme, GET, TIMERS.poll_lease_seconds - 1)
    assert acme.poller.poll(LANE).state == "opened"
    assert left == [pytest.approx(TIMERS.poll_lease_seconds, abs=1)] * 2
