"""How long an idle portal is left alone: for long while its signals come, as ever where they do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b24offline import keys
from tests.support.core_events import PORTAL, PREFIX
from tests.support.deployment import Deployment

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

PUSH = {"B24_PUSH_URL": "https://push.example.com/b24", "B24_PUSH_IDLE_SECONDS": "300"}


def idle(acme: Deployment) -> float:
    """Let the only lane be due with an interval of 100 s, poll, and return the interval after that."""
    now = acme.ledger.now_ms()
    acme.redis.hset(keys.lanes(acme.ledger.stem), "default", f"{now} 100000 {now - 100_000}")
    acme.services.polls.take()
    return acme.services.lanes.interval_seconds("default")


def heard(acme: Deployment, seconds_ago: float) -> None:
    acme.redis.hset(keys.signals(acme.ledger.stem), "heard", acme.ledger.now_ms() - round(seconds_ago * 1000))


def test_an_idle_portal_is_left_alone_while_its_signals_come(redis: Redis, tmp_path: Path) -> None:
    acme = Deployment(redis, tmp_path, **PUSH)
    assert idle(acme) == 30.0, "none was heard yet"
    heard(acme, 4000)
    assert idle(acme) == 150.0


def test_without_an_address_nothing_changes(redis: Redis, tmp_path: Path) -> None:
    acme = Deployment(redis, tmp_path)
    heard(acme, 5)
    assert idle(acme) == 30.0


def test_a_record_without_a_signal_brings_the_polls_back(redis: Redis, tmp_path: Path) -> None:
    acme = Deployment(redis, tmp_path, **PUSH)
    heard(acme, 4000)
    acme.changes("1")
    assert idle(acme) == 1.0, "found, so the next poll is soon"
    assert idle(acme) == 30.0, "and an idle portal is not left alone any more"
    heard(acme, 0)
    assert idle(acme) == 150.0


def test_a_record_behind_a_fresh_signal_is_none_that_was_missed(redis: Redis, tmp_path: Path) -> None:
    acme = Deployment(redis, tmp_path, **PUSH)
    heard(acme, 30)
    acme.changes("1")
    idle(acme)
    assert idle(acme) == 150.0


def test_a_long_interval_is_due_half_a_tick_sooner_as_a_tick_finds_it_later(redis: Redis, tmp_path: Path) -> None:
    acme = Deployment(redis, tmp_path)
    acme.services.schedule.seed([PORTAL])
    assert idle(acme) == 30.0
    wait_ms = redis.zscore(keys.polls(PREFIX), PORTAL) - acme.ledger.now_ms()
    assert 29_000 < wait_ms <= 29_500
    acme.redis.hset(keys.lanes(acme.ledger.stem), "default", f"{acme.ledger.now_ms() + 450} 30000 0")
    assert acme.services.polls.take().reply == "default empty: 0", "and is polled then, not put off"
    acme.redis.hset(keys.lanes(acme.ledger.stem), "default", f"{acme.ledger.now_ms() + 5_000} 30000 0")
    assert acme.services.polls.take().reply == "no lane is due"


def test_a_short_interval_stays_as_it_is(redis: Redis, tmp_path: Path) -> None:
    acme = Deployment(redis, tmp_path)
    acme.services.schedule.seed([PORTAL])
    acme.changes("1")
    acme.services.polls.take()
    assert redis.zscore(keys.polls(PREFIX), PORTAL) - acme.ledger.now_ms() > 900
