"""Alarms in the log: once when they begin, once when they are over, however many look."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from core_events import ledger_on

from b24offline.alarms import tell
from b24offline.overview import Need

if TYPE_CHECKING:
    from redis import Redis

pytestmark = pytest.mark.unit

LETTERS = Need("operator", "3 dead letters wait for a decision")
POLLS = Need("operator", "nobody polls it: are beat and the workers running?")


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str, str]]:
    found = [(one.levelno, one.message, str(one.__dict__["what"])) for one in caplog.records]
    caplog.clear()
    return found


def test_an_alarm_is_told_once_and_its_end_once(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    ledger = ledger_on(redis)
    assert tell(redis, ledger, (LETTERS,)) == (0, 0)
    assert tell(redis, ledger, (LETTERS, POLLS)) == (1, 0)
    assert lines(caplog) == [(logging.ERROR, "alarm", LETTERS.what)]
    more = Need("operator", "12 dead letters wait for a decision")
    assert tell(redis, ledger, (more, POLLS)) == (1, 0), "another number is the same alarm"
    assert lines(caplog) == [(logging.ERROR, "alarm", POLLS.what)]
    assert tell(redis, ledger, (POLLS,)) == (0, 1)
    assert lines(caplog) == [(logging.WARNING, "alarm is over", LETTERS.what)]
    assert tell(redis, ledger, (POLLS,)) == (0, 0)
    assert lines(caplog) == []
    assert tell(redis, ledger, ()) == (0, 1)
    assert not redis.exists(f"{ledger.stem}:alarms")


def test_what_passes_between_two_looks_is_not_told(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    ledger = ledger_on(redis)
    for needs in ((POLLS,), (), (POLLS,), ()):
        assert tell(redis, ledger, needs) == (0, 0)
    assert lines(caplog) == []


def test_the_same_words_for_two_actors_are_two_alarms(redis: Redis) -> None:
    ledger = ledger_on(redis)
    both = (POLLS, Need("developer", POLLS.what))
    tell(redis, ledger, both)
    assert tell(redis, ledger, both) == (2, 0)
