"""The rate limiter, measured against an embedded Valkey with its own clock."""

from __future__ import annotations

import math
import threading
import time

import pytest
import redis as redis_client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from b24offline.errors import ConfigError
from b24offline.rest import RateLimiter
from b24offline.rest.rate_limit import LONGEST_PAUSE_SECONDS


def make_limiter(redis, **options):
    return RateLimiter(
        redis, key_prefix="t", **{"requests_per_second": 20.0, "burst": 10, "ack_rate_share": 0.3, **options}
    )


def drained(rate_limiter, kind, limit=1000):
    """Take as many as are free; return how many."""
    return next(n for n in range(limit) if rate_limiter.take("acme", kind).wait_seconds > 0)


def refused(why, rate_limiter, portal, *methods, kind="settle"):
    """Return the seconds for which a request is refused for this reason, 0.0 when it is not."""
    turn = rate_limiter.take(portal, kind, methods)
    return turn.wait_seconds if turn.why == why else 0.0


def test_a_share_is_free_for_settling_only(redis):
    rate_limiter = make_limiter(redis, requests_per_second=0.1)
    assert drained(rate_limiter, "run") == 7
    assert rate_limiter.take("acme", "poll").wait_seconds == pytest.approx(10, abs=1)
    assert drained(rate_limiter, "settle") == 3
    assert rate_limiter.take("acme", "settle").wait_seconds == pytest.approx(10, abs=1)
    assert rate_limiter.take("acme", "run").wait_seconds == pytest.approx(40, abs=1)
    assert rate_limiter.take("other", "run").wait_seconds == 0


def test_settling_may_use_everything(redis):
    assert drained(make_limiter(redis, requests_per_second=0.1), "settle") == 10


def test_a_refused_request_is_not_counted(redis):
    rate_limiter = make_limiter(redis, requests_per_second=0.1)
    drained(rate_limiter, "run")
    first = rate_limiter.take("acme", "run").wait_seconds
    for _ in range(50):
        assert rate_limiter.take("acme", "run").wait_seconds <= first


def test_the_returned_wait_is_enough(redis):
    rate_limiter = make_limiter(redis, requests_per_second=0.5)
    drained(rate_limiter, "run")
    for _ in range(2):
        wait = rate_limiter.take("acme", "run").wait_seconds
        assert 0 < wait <= 2.0
        time.sleep(wait)
        assert rate_limiter.take("acme", "run").wait_seconds == 0


GIVE_UP_SECONDS = 60.0


def run_threads(valkey, work, count, enough):
    """Run ``work(rate_limiter)`` repeatedly in threads with clients of their own until ``enough(results)``.

    Return the results and the time that it took.
    """
    results, begin = [], threading.Barrier(count + 1)

    def loop():
        rate_limiter = make_limiter(redis_client.Redis.from_url(valkey.url))
        begin.wait()
        end = time.monotonic() + GIVE_UP_SECONDS
        while not enough(results) and time.monotonic() < end:
            results.append(work(rate_limiter))

    threads = [threading.Thread(target=loop) for _ in range(count)]
    for thread in threads:
        thread.start()
    begin.wait()
    begun = time.monotonic()
    for thread in threads:
        thread.join()
    return results, time.monotonic() - begun


def test_many_threads_together_keep_the_rate(valkey, redis):
    taken = 7 + 20 * 2
    results, seconds = run_threads(
        valkey,
        lambda rate_limiter: rate_limiter.take("acme", "run").wait_seconds == 0,
        8,
        lambda results: results.count(True) >= taken,
    )
    allowed = results.count(True)
    assert taken <= allowed <= 7 + 20 * seconds + 1


def test_settling_is_served_while_runs_saturate(valkey, redis):
    waits = []
    stop = threading.Event()

    def settle():
        rate_limiter = make_limiter(redis)
        while not stop.wait(0.25):  # 4 a second, of 20
            waits.append(rate_limiter.take("acme", "settle").wait_seconds)

    settler = threading.Thread(target=settle)
    settler.start()
    results, seconds = run_threads(
        valkey,
        lambda rate_limiter: rate_limiter.take("acme", "run").wait_seconds == 0,
        6,
        lambda results: len(waits) >= 8,
    )
    stop.set()
    settler.join()
    assert len(waits) >= 8
    assert waits == [0.0] * len(waits)
    assert results.count(True) + len(waits) <= 10 + 20 * seconds + 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rate=st.floats(0.01, 0.5),
    burst=st.integers(1, 60),
    share=st.floats(0, 0.99),
    order=st.lists(st.sampled_from(["run", "poll", "settle"]), max_size=80),
)
def test_no_order_of_kinds_exceeds_its_ceiling(redis, rate, burst, share, order):
    redis.flushall()
    rate_limiter = make_limiter(redis, requests_per_second=rate, burst=burst, ack_rate_share=share)
    begun = time.monotonic()
    taken = [kind for kind in order if rate_limiter.take("acme", kind).wait_seconds == 0]
    leaked = math.ceil(rate * (time.monotonic() - begun))
    assert len(taken) <= burst + leaked
    others = max(1, int(burst * (1 - share)))
    last_other = max((i for i, kind in enumerate(taken) if kind != "settle"), default=-1)
    assert last_other + 1 <= others + leaked


def test_a_slow_down_refuses_all_then_allows_settling_first(redis):
    rate_limiter = make_limiter(redis, requests_per_second=0.1)
    rate_limiter.slow_down("acme", 4)
    assert rate_limiter.take("acme", "settle").wait_seconds == pytest.approx(4, abs=3)
    assert rate_limiter.take("acme", "run").wait_seconds == pytest.approx(4 + 3 * 10, abs=3)
    assert rate_limiter.take("other", "run").wait_seconds == 0
    time.sleep(rate_limiter.take("acme", "settle").wait_seconds)
    assert drained(rate_limiter, "settle") == 1
    assert rate_limiter.take("acme", "run").wait_seconds > 0


def test_a_slow_down_never_shortens_another(redis):
    rate_limiter = make_limiter(redis)
    rate_limiter.slow_down("acme", 30)
    rate_limiter.slow_down("acme", 1)
    assert rate_limiter.take("acme", "settle").wait_seconds == pytest.approx(30, abs=1)
    rate_limiter.slow_down("acme", 10**9)
    assert rate_limiter.take("acme", "settle").wait_seconds <= LONGEST_PAUSE_SECONDS


def test_a_paused_method_is_paused_for_every_caller(redis):
    rate_limiter = make_limiter(redis)
    seconds, microseconds = redis.time()
    now = seconds + microseconds / 1e6
    assert refused("paused", rate_limiter, "acme", "crm.deal.list") == 0
    rate_limiter.pause_method("acme", "crm.deal.list", now + 100)
    assert refused("paused", rate_limiter, "acme", "CRM.deal.list") == pytest.approx(100, abs=1)
    assert (
        refused("paused", rate_limiter, "acme", "crm.lead.list")
        == refused("paused", rate_limiter, "other", "crm.deal.list")
        == 0
    )
    rate_limiter.pause_method("acme", "crm.deal.list", now + 50)
    assert refused("paused", rate_limiter, "acme", "crm.deal.list") == pytest.approx(100, abs=1)
    for number, odd in enumerate([0.0, now - 5, now + 10**6]):
        rate_limiter.pause_method("acme", f"odd.{number}", odd)
        assert refused("paused", rate_limiter, "acme", f"odd.{number}") == pytest.approx(60, abs=1)


def test_a_server_clock_set_back_does_not_block(redis):
    rate_limiter = make_limiter(redis)
    rate_limiter.take("acme", "run")
    redis.set("t:{acme}:rate:bucket", time.time() + 86400)
    assert rate_limiter.take("acme", "run").wait_seconds == 0


def test_every_key_is_named_for_its_portal_and_ends_by_itself(redis):
    rate_limiter = make_limiter(redis)
    rate_limiter.take("acme", "run")
    rate_limiter.slow_down("acme", 3)
    rate_limiter.pause_method("acme", "m", 0.0)
    rate_limiter.block("acme", 60)
    names = ["blocked", "blocked:polls", "bucket", "method:m"]
    redis.delete("t:{acme}:stats")  # counters stay
    assert sorted(redis.keys()) == [f"t:{{acme}}:rate:{name}" for name in names]
    assert all(0 < redis.pttl(key) <= 61_000 for key in redis.scan_iter())


def test_a_block_concerns_one_portal_and_can_be_ended(redis):
    rate_limiter = make_limiter(redis)
    rate_limiter.block("acme", 60)
    assert (
        refused("blocked", rate_limiter, "acme", kind="poll")
        < 60
        < refused("blocked", rate_limiter, "acme", kind="settle")
        == pytest.approx(61, abs=1)
    )
    assert refused("blocked", rate_limiter, "other", kind="run") == 0
    rate_limiter.unblock("acme")
    assert {refused("blocked", rate_limiter, "acme", kind=kind) for kind in ("run", "poll", "settle")} == {0}


def test_a_client_that_returns_bytes_works(valkey, redis):
    rate_limiter = make_limiter(redis_client.Redis.from_url(valkey.url), requests_per_second=0.1)
    assert drained(rate_limiter, "run") == 7


@pytest.mark.parametrize(
    "numbers", [{"requests_per_second": 0}, {"burst": 0}, {"ack_rate_share": 1}, {"ack_rate_share": -0.1}]
)
def test_an_impossible_rate_is_refused(redis, numbers):
    with pytest.raises(ConfigError, match="impossible"):
        make_limiter(redis, **numbers)
