"""How many messages are taken, and that a flood of forged ones keeps no proved portal out."""

from __future__ import annotations

import pytest

from b24offline.push import limits
from b24offline.push.limits import (
    ALL_PER_SECOND,
    CALLS_PER_MINUTE,
    PORTAL_PER_SECOND,
    UNPROVED_PER_MINUTE,
    Bucket,
    Limits,
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_bucket_gives_what_it_holds_and_fills_again() -> None:
    bucket = Bucket(2, 0.5)
    assert [bucket.take(10.0) for _ in range(3)] == [True, True, False]
    assert [bucket.take(12.0) for _ in range(2)] == [True, False]
    assert [bucket.take(1000.0) for _ in range(3)] == [True, True, False]
    assert not bucket.take(999.0), "a clock that goes back fills nothing"


def test_a_flood_of_forged_messages_keeps_no_proved_portal_out(clock: Clock) -> None:
    found = Limits(clock)
    found.note_proved("a1", "app")
    taken = [found.take_from("a1", f"forged{number}") for number in range(200)]
    assert sum(taken) == UNPROVED_PER_MINUTE
    assert not found.take_from("b2", "first"), "a portal that never proved itself is one of the flood"
    assert found.take_from("a1", "app")


def test_a_proved_portal_has_a_limit_of_its_own(clock: Clock) -> None:
    found = Limits(clock)
    for member in ("a1", "b2"):
        found.note_proved(member, "app")
    assert sum(found.take_from("a1", "app") for _ in range(100)) == 2 * PORTAL_PER_SECOND
    assert found.take_from("b2", "app")
    clock.now += 1
    assert sum(found.take_from("a1", "app") for _ in range(100)) == PORTAL_PER_SECOND


def test_all_together_and_calls_are_bounded(clock: Clock) -> None:
    found = Limits(clock)
    assert sum(found.take() for _ in range(1000)) == ALL_PER_SECOND
    assert sum(found.take_call() for _ in range(1000)) == CALLS_PER_MINUTE
    clock.now += 60
    assert sum(found.take_call() for _ in range(1000)) == CALLS_PER_MINUTE


def test_the_oldest_proof_is_forgotten_first(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_KNOWN", 2)
    found = Limits(clock)
    for member in ("a1", "b2", "a1", "c3"):
        found.note_proved(member, "app")
    while found.take_from("nobody", ""):
        pass
    assert [found.take_from(member, "app") for member in ("a1", "b2", "c3")] == [True, False, True]
