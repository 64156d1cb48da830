"""Alarms are logged once when they begin and once when they are over, by however many workers."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from b24offline.monitoring import IssueCode
from b24offline.monitoring.alarms import log_changes
from b24offline.monitoring.health import Issue
from tests.support.core_events import ledger_on

if TYPE_CHECKING:
    from redis import Redis

DEAD_LETTERS = Issue(IssueCode.DEAD_LETTERS, "operator", "3 dead letters wait for a decision.")
POLLS = Issue(IssueCode.NOT_POLLED, "operator", "The portal has not been polled.")
REFUSED = Issue(IssueCode.SUBSCRIPTION_REFUSED, "operator", "The portal refuses to subscribe ONA.", "ONA")


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str, str, str]]:
    found = [
        (line.levelno, line.message, str(line.__dict__["code"]), str(line.__dict__["issue"])) for line in caplog.records
    ]
    caplog.clear()
    return found


def test_an_alarm_is_logged_once_and_its_end_once(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    ledger = ledger_on(redis)
    assert log_changes(redis, ledger, (DEAD_LETTERS,)) == (0, 0)
    assert log_changes(redis, ledger, (DEAD_LETTERS, POLLS)) == (1, 0)
    assert lines(caplog) == [(logging.ERROR, "alarm", "dead_letters", DEAD_LETTERS.message)]
    reworded = replace(DEAD_LETTERS, message="12 dead letters wait for a decision.")
    assert log_changes(redis, ledger, (reworded, POLLS)) == (1, 0), "other words are the same alarm"
    assert lines(caplog) == [(logging.ERROR, "alarm", "not_polled", POLLS.message)]
    assert log_changes(redis, ledger, (POLLS,)) == (0, 1)
    assert lines(caplog) == [(logging.WARNING, "alarm is over", "dead_letters", DEAD_LETTERS.message)]
    assert log_changes(redis, ledger, (POLLS,)) == (0, 0)
    assert lines(caplog) == []
    assert log_changes(redis, ledger, ()) == (0, 1)
    assert not redis.exists(f"{ledger.stem}:alarms")


def test_an_alarm_has_code_portal_actor_and_what_to_do(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    ledger = ledger_on(redis)
    for _ in range(2):
        log_changes(redis, ledger, (DEAD_LETTERS,))
    (line,) = caplog.records
    reply = {name: line.__dict__[name] for name in ("code", "portal", "actor", "issue")}
    assert reply == {"code": "dead_letters", "portal": "acme", "actor": "operator", "issue": DEAD_LETTERS.message}


def test_an_issue_seen_once_is_not_logged(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    ledger = ledger_on(redis)
    for issues in ((POLLS,), (), (POLLS,), ()):
        assert log_changes(redis, ledger, issues) == (0, 0)
    assert lines(caplog) == []


@pytest.mark.parametrize("change", [{"actor": "developer"}, {"subject": "ONB"}, {"code": IssueCode.ORPHANS}])
def test_another_actor_subject_or_code_is_another_alarm(redis: Redis, change: dict[str, str]) -> None:
    ledger = ledger_on(redis)
    both = (REFUSED, replace(REFUSED, **change))
    log_changes(redis, ledger, both)
    assert log_changes(redis, ledger, both) == (2, 0)
