"""A part is read once at a time, and nobody waits for it without bound."""

from __future__ import annotations

import threading
import time

from b24offline.metrics.part import Part
from tests.support.waiting import wait_until


class Source:
    def __init__(self) -> None:
        self.reads = 0
        self.go = threading.Event()
        self.go.set()
        self.error: Exception | None = None

    def read(self) -> int:
        self.reads += 1
        self.go.wait(30)
        if self.error:
            raise self.error
        return self.reads


def part_of(source: Source, fresh: float = 0.0, stale: float = 60.0) -> Part[int]:
    return Part("store", source.read, fresh_seconds=fresh, stale_seconds=stale)


def value(part: Part[int], wait: float = 5.0) -> int | None:
    snapshot = part.latest(wait)
    return None if snapshot is None else snapshot.value


def test_what_is_fresh_is_not_read_again() -> None:
    source = Source()
    part = part_of(source, fresh=60)
    assert value(part) == value(part) == source.reads == 1


def test_what_is_old_is_read_again() -> None:
    part = part_of(Source())
    assert value(part) == 1
    wait_until(lambda: value(part) == 2, "it is read again")


def test_after_a_long_reading_there_is_a_pause_of_twice_its_time() -> None:
    source = Source()
    source.go.clear()
    part = part_of(source)
    threading.Timer(0.5, source.go.set).start()
    assert value(part) == value(part) == source.reads == 1
    wait_until(lambda: value(part) == 2, "the pause is over")


def test_a_part_that_hangs_at_first_is_not_up_and_asked_once() -> None:
    source = Source()
    source.go.clear()
    part, began = part_of(source), time.monotonic()
    assert [value(part, 0.05) for _ in range(3)] == [None] * 3
    assert time.monotonic() - began < 5
    assert source.reads == 1
    source.go.set()
    wait_until(lambda: value(part) == 2, "it is read again")


def test_while_a_reading_hangs_the_one_before_is_shown_until_it_is_stale() -> None:
    source = Source()
    part = part_of(source, stale=0.5)
    assert value(part) == 1
    source.go.clear()
    assert value(part, 0.01) == 1
    wait_until(lambda: value(part, 0.01) is None, "it is stale")
    assert source.reads == 2
    source.go.set()


def test_a_reading_that_fails_ends_what_was_shown() -> None:
    source = Source()
    part = part_of(source)
    assert value(part) == 1
    source.error = ValueError("refused")
    wait_until(lambda: value(part) is None, "nothing is shown")
    source.error = None
    assert value(part) is not None
