"""Leases of running steps are renewed from one thread."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from redis import Redis

from b24offline.ledger import LeaseRenewer, Ledger, RunRef
from tests.support.core_events import PREFIX, TIMERS, due_times, entry_of, ledger_on, opened, ran
from tests.support.ports import free_port
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    pass

SHORT = replace(TIMERS, lease_seconds=30.0)


@pytest.fixture
def running(redis: Redis) -> tuple[Ledger, RunRef]:
    ledger = ledger_on(redis, SHORT)
    (handed,) = opened(ledger, "p1", entry_of(1))
    return ledger, ran(ledger, handed)


def expire(redis: Redis, ledger: Ledger, run: str) -> None:
    redis.zadd(f"{ledger.stem}:due", {f"run:{run}": 1})


def lease_left(redis: Redis, ledger: Ledger, run: str) -> float:
    return due_times(redis, ledger).get(f"run:{run}", -1.0)


def renewers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lease-renewer"]


def test_a_lease_is_renewed_while_the_step_runs_and_not_after(redis: Redis, running: tuple[Ledger, RunRef]) -> None:
    ledger, handed = running
    renewer = LeaseRenewer(0.01)
    with renewer.renewing(ledger, handed.run, handed.attempt, 0):
        for _ in range(3):
            expire(redis, ledger, handed.run)
            wait_until(lambda: lease_left(redis, ledger, handed.run) > 0, "the lease is renewed")
        assert ledger.take_overdue().runs == ()
    other = opened(ledger, "p2", entry_of(2))[0]
    ran(ledger, other)
    expire(redis, ledger, handed.run)
    expire(redis, ledger, other.run)
    with renewer.renewing(ledger, other.run, other.attempt, 0):
        # Two rounds of the thread have passed when a lease was renewed twice.
        for _ in range(2):
            expire(redis, ledger, other.run)
            wait_until(lambda: lease_left(redis, ledger, other.run) > 0, "the lease is renewed")
    assert lease_left(redis, ledger, handed.run) < 0


def test_one_thread_keeps_all_leases(redis: Redis, running: tuple[Ledger, RunRef]) -> None:
    ledger, first = running
    before = len(renewers())
    renewer = LeaseRenewer(0.01)
    assert len(renewers()) == before, "a thread before the first lease would not survive a fork"
    (second,) = opened(ledger, "p2", entry_of(2))
    ran(ledger, second)
    with renewer.renewing(ledger, first.run, 1, 0), renewer.renewing(ledger, second.run, 1, 0):
        for run in (first.run, second.run):
            expire(redis, ledger, run)
        wait_until(
            lambda: all(lease_left(redis, ledger, run) > 0 for run in (first.run, second.run)), "the lease is renewed"
        )
    assert len(renewers()) == before + 1


def test_a_lost_lease_is_logged_once_and_left_alone(
    redis: Redis, running: tuple[Ledger, RunRef], caplog: pytest.LogCaptureFixture
) -> None:
    ledger, handed = running
    renewer = LeaseRenewer(0.01)
    with caplog.at_level(logging.WARNING), renewer.renewing(ledger, handed.run, handed.attempt, 0):
        expire(redis, ledger, handed.run)
        redis.hincrby(f"{ledger.stem}:run:{handed.run}", "attempt", 1)
        wait_until(lambda: "lease lost while running" in caplog.messages, "the loss is logged")
        (second,) = opened(ledger, "p2", entry_of(2))
        ran(ledger, second)
        with renewer.renewing(ledger, second.run, 1, 0):
            for _ in range(2):
                expire(redis, ledger, second.run)
                wait_until(lambda: lease_left(redis, ledger, second.run) > 0, "the lease is renewed")
    assert caplog.messages.count("lease lost while running") == 1


def test_an_unreachable_ledger_ends_neither_thread_nor_step(
    redis: Redis, running: tuple[Ledger, RunRef], caplog: pytest.LogCaptureFixture
) -> None:
    ledger, handed = running
    nowhere = Ledger(Redis(port=free_port(), decode_responses=True, retry=None), PREFIX, "gone", SHORT)
    renewer = LeaseRenewer(0.01)
    with caplog.at_level(logging.WARNING), renewer.renewing(nowhere, "1@1/x", 1, 0):
        wait_until(lambda: any("cannot be reached" in message for message in caplog.messages), "the outage is logged")
        with renewer.renewing(ledger, handed.run, handed.attempt, 0):
            expire(redis, ledger, handed.run)
            wait_until(lambda: lease_left(redis, ledger, handed.run) > 0, "the lease is renewed")
