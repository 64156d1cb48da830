"""The portal's clock and what follows it: delayed calls, the leaky bucket, the sum of execution time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b24offline.emulator import wait_until
from b24offline.emulator.state.clock import Clock, iso, parse_moment
from b24offline.emulator.state.limits import LeakyBucket, OperatingTime
from tests.unit.emulator.emulator_bench import START, PortalBench


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
    bench, done = PortalBench.new(), []
    later = bench.site.later
    later.add(START + 20, lambda: done.append("second"))
    later.add(START + 10, lambda: done.append("first"))
    assert (done, later.waiting) == ([], 2)
    bench.wait(20)
    wait_until(lambda: len(done) == 2, 60)
    assert (done, later.waiting) == (["first", "second"], 0)


def test_bucket_holds_50_and_drains_2_a_second():
    bucket = LeakyBucket()
    assert [bucket.admit(START) for _ in range(51)] == [True] * 50 + [False]
    assert not bucket.admit(START + 0.4)
    assert bucket.admit(START + 1)
    assert bucket.admit(START + 1)
    assert not bucket.admit(START + 1)
    assert bucket.refused == 3


@settings(deadline=None)
@given(st.lists(st.floats(0, 3), max_size=300))
def test_bucket_never_lets_more_through_than_it_may(pauses):
    bucket, now, admitted = LeakyBucket(), START, 0
    for pause in pauses:
        now += pause
        admitted += bucket.admit(now)
    assert admitted <= 50 + 2 * (now - START) + 1


def test_portal_refuses_over_the_bucket_and_counts_a_batch_once(bench):
    bench.portal.bucket.off = False
    for _ in range(50):
        bench.ok("batch", cmd={str(number): "user.admin" for number in range(50)})
    assert bench.refused("user.admin") == (503, "QUERY_LIMIT_EXCEEDED")
    bench.wait(1)
    bench.ok("user.admin")


def test_operating_time_is_summed_over_ten_minutes():
    operating = OperatingTime(limit_seconds=10)
    for minute in range(10):
        operating.charge("m", START + 60 * minute, 1.5)
    assert operating.used("m", START + 540) == 15
    assert operating.refuses("m", START + 540)
    assert not operating.refuses("other", START + 540)
    eased = operating.reset_at("m", START + 540)
    assert START + 540 < eased <= START + 600
    assert operating.used("m", eased) == 13.5
    operating.charge("n", eased, 2.0)
    found = operating.by_method(eased)
    assert (found["m"], found["n"]) == (13.5, 2.0)


def test_the_call_after_the_limit_is_refused_and_says_when_it_eases(bench):
    bench.portal.operating.limit_seconds = 480
    bench.portal.operating.costs["crm.deal.get"] = 481.0
    bench.ok("crm.deal.get", id=1)
    outcome = bench.call("crm.deal.get", id=1)
    assert (outcome.status, outcome.body["error"]) == (429, "OPERATION_TIME_LIMIT")
    bench.ok("crm.lead.list")
    reset_at = outcome.body["time"]["operating_reset_at"]
    bench.wait(reset_at - bench.portal.clock.now())
    bench.ok("crm.deal.get", id=1)


def test_commands_of_a_batch_use_up_their_own_time(bench):
    bench.portal.operating.costs["crm.deal.*"] = 481.0
    answer = bench.ok("batch", cmd={"a": "crm.deal.get?id=1", "b": "crm.deal.get?id=1", "c": "user.admin"})
    assert set(answer["result"]) == {"a", "c"}
    assert answer["result_error"]["b"]["error"] == "OPERATION_TIME_LIMIT"


def test_execution_time_can_be_left_out_of_answers(bench):
    bench.portal.quirks = bench.portal.quirks.changed({"time_has_operating": False, "limit_error_has_time": False})
    assert "operating" not in bench.call("user.admin").body["time"]
    bench.portal.operating.charge("user.admin", bench.portal.clock.now(), 1000)
    assert "time" not in bench.call("user.admin").body
