"""The portal's clock, and what waits for it."""

from __future__ import annotations

import pytest
from emulator_bench import START, Bench

from b24offline.emulator import wait_until
from b24offline.emulator.state.clock import Clock, iso, parse_moment


def test_clock_runs_at_its_rate_and_can_be_moved():
    ticks = [100.0]
    clock = Clock(start=START, rate=2, ticks=lambda: ticks[0])
    ticks[0] += 5
    assert clock.now() == START + 10
    clock.set_rate(10)
    assert clock.now() == START + 10
    ticks[0] += 1
    assert clock.now() == START + 20
    clock.advance(5)
    assert clock.now() == START + 25
    with pytest.raises(ValueError, match="greater than 0"):
        clock.set_rate(0)


def test_clock_does_not_go_back():
    clock = Clock(start=START, ticks=lambda: 0.0)
    with pytest.raises(ValueError, match="only moved ahead, not by -5"):
        clock.advance(-5)
    assert clock.now() == START


def test_moments_are_written_with_offset_and_read_in_several_forms():
    assert iso(START + 0.9) == "2027-01-15T10:00:00+02:00"
    assert parse_moment("2027-01-15T10:00:00+02:00") == START
    assert parse_moment("2027-01-15 10:00:00") == START
    assert parse_moment("2027-01-15T08:00:00+00:00") == START


def test_later_calls_run_in_the_order_of_their_moments():
    bench, done = Bench.new(), []
    later = bench.site.later
    later.add(START + 20, lambda: done.append("second"))
    later.add(START + 10, lambda: done.append("first"))
    assert (done, later.waiting) == ([], 2)
    bench.wait(20)
    wait_until(lambda: len(done) == 2, 60)
    assert (done, later.waiting) == (["first", "second"], 0)


def test_signals_wait_for_the_least_pause():
    bench = Bench.new("ONCRMDEALADD")
    bench.ok("event.bind", event="ONOFFLINEEVENT", handler="http://example.invalid/", options={"minTimeout": 100})
    bench.deals(2)
    wait_until(lambda: bench.site.push.counts.refused == 1, 60)
    bench.deals(2)
    passed = []
    bench.site.later.add(START, lambda: passed.append(True))
    wait_until(lambda: passed, 60)
    assert (bench.site.later.waiting, bench.site.push.counts.refused) == (1, 1)
    bench.wait(100)
    wait_until(lambda: bench.site.push.counts.refused == 2, 60)
