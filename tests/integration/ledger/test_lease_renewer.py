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


def keepers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lease-renewer"]


def test_a_lease_is_renewed_while_the_step_runs_and_not_after(redis: Redis, running: tuple[Ledger, RunRef]) -> None:
    ledger, handed = running
    keeper = LeaseRenewer(0.01)
    with keeper.renewing(ledger, handed.run, handed.attempt, 0):
        for _ in range(3):
            expire(redis, ledger, handed.run)
            wait_until(lambda: lease_left(redis, ledger, handed.run) > 0, "the lease is renewed")
        assert ledger.take_overdue().runs == ()
    other = opened(ledger, "p2", entry_of(2))[0]
    ran(ledger, other)
    expire(redis, ledger, handed.run)
    expire(redis, ledger, other.run)
    with keeper.renewing(ledger, other.run, other.attempt, 0):
        # two rounds of the keeper have passed when a lease was renewed twice
        for _ in range(2):
            expire(redis, ledger, other.run)
            wait_until(lambda: lease_left(redis, ledger, other.run) > 0, "the lease is renewed")
    assert lease_left(redis, ledger, handed.run) < 0


def test_one_thread_keeps_all_leases(redis: Redis, running: tuple[Ledger, RunRef]) -> None:
    ledger, first = running
    before = len(keepers())
    keeper = LeaseRenewer(0.01)
    assert len(keepers()) == before, "a thread before the first lease would not survive a fork"
    (second,) = opened(ledger, "p2", entry_of(2))
    ran(ledger, second)
    with keeper.renewing(ledger, first.run, 1, 0), keeper.renewing(ledger, second.run, 1, 0):
        for run in (first.run, second.run):
            expire(redis, ledger, run)
        wait_until(
            lambda: all(lease_left(redis, ledger, run) > 0 for run in (first.run, second.run)), "the lease is renewed"
        )
    assert len(keepers()) == before + 1


def test_a_lost_lease_is_told_once_and_left_alone(
    redis: Redis, running: tuple[Ledger, RunRef], caplog: pytest.LogCaptureFixture
) -> None:
    ledger, handed = running
    keeper = LeaseRenewer(0.01)
    with caplog.at_level(logging.WARNING), keeper.renewing(ledger, handed.run, handed.attempt, 0):
        expire(redis, ledger, handed.run)
        redis.hincrby(f"{ledger.stem}:run:{handed.run}", "attempt", 1)
        wait_until(lambda: "lease lost while running" in caplog.messages, "the loss is logged")
        (second,) = opened(ledger, "p2", entry_of(2))
        ran(ledger, second)
        with keeper.renewing(ledger, second.run, 1, 0):
            for _ in range(2):
                expire(redis, ledger, second.run)
                wait_until(lambda: lease_left(redis, ledger, second.run) > 0, "the lease is renewed")
    assert caplog.messages.count("lease lost while running") == 1


def test_a_ledger_that_cannot_be_reached_ends_neither_the_thread_nor_the_step(
    redis: Redis, running: tuple[Ledger, RunRef], caplog: pytest.LogCaptureFixture
) -> None:
    ledger, handed = running
    nowhere = Ledger(Redis(port=free_port(), decode_responses=True, retry=None), PREFIX, "gone", SHORT)
    keeper = LeaseRenewer(0.01)
    with caplog.at_level(logging.WARNING), keeper.renewing(nowhere, "1@1/x", 1, 0):
        wait_until(lambda: any("cannot be reached" in message for message in caplog.messages), "the outage is logged")
        with keeper.renewing(ledger, handed.run, handed.attempt, 0):
            expire(redis, ledger, handed.run)
            wait_until(lambda: lease_left(redis, ledger, handed.run) > 0, "the lease is renewed")
