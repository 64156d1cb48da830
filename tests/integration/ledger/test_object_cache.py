"""Objects that wait for their runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings

from b24offline import keys
from b24offline.events import ObjectKey
from b24offline.ledger import ObjectCache, Snapshot
from tests.support.core_events import PORTAL, json_values, ledger_on

if TYPE_CHECKING:
    from redis import Redis

    from b24offline.events import JSON

DEAL = ObjectKey(PORTAL, "crm_deal", "7")


def kept(redis: Redis, ttl_seconds: float = 60, portal: str = PORTAL) -> ObjectCache:
    return ObjectCache(redis, ledger_on(redis, portal=portal), ttl_seconds)


def test_a_snapshot_serves_only_runs_that_began_before_it_was_read(redis: Redis) -> None:
    object_cache = kept(redis)
    object_cache.put([Snapshot(DEAL, 1_000, {"ID": "7"})])
    assert object_cache.get(DEAL, 999) == Snapshot(DEAL, 1_000, {"ID": "7"})
    assert object_cache.get(DEAL, 1_000) is not None
    assert object_cache.get(DEAL, 1_001) is None


def test_a_snapshot_from_the_future_serves_nobody(redis: Redis) -> None:
    """The clock was set back since: no record can be told to be older than this read."""
    object_cache, now = kept(redis), ledger_on(redis).now_ms()
    object_cache.put([Snapshot(DEAL, now + 60_000, {"ID": "7"})])
    assert object_cache.get(DEAL, now) is None
    assert object_cache.missing([DEAL], now) == [DEAL]
    object_cache.put([Snapshot(DEAL, now, {"ID": "7"})])
    assert object_cache.get(DEAL, now) is not None
    assert object_cache.missing([DEAL], now) == []


def test_objects_and_portals_are_told_apart(redis: Redis) -> None:
    object_cache = kept(redis)
    object_cache.put([Snapshot(DEAL, 1, "deal"), Snapshot(ObjectKey(PORTAL, "crm_lead", "7"), 1, "lead")])
    found = object_cache.get(DEAL, 0)
    assert found is not None
    assert found.data == "deal"
    assert object_cache.get(ObjectKey(PORTAL, "crm_deal", "8"), 0) is None
    assert kept(redis, portal="other").get(DEAL, 0) is None


def test_an_object_that_is_gone_is_known_to_be_gone(redis: Redis) -> None:
    object_cache = kept(redis)
    object_cache.put([Snapshot(DEAL, 1, None)])
    assert object_cache.get(DEAL, 0) == Snapshot(DEAL, 1, None)


def test_snapshots_expire(redis: Redis) -> None:
    kept(redis, ttl_seconds=60).put([Snapshot(DEAL, 1, None)])
    found = list(redis.scan_iter("*"))
    assert len(found) == 2  # and how many bytes they are
    assert all(50_000 < redis.pttl(key) <= 60_000 for key in found)


def test_objects_beyond_the_quota_are_read_by_their_runs(redis: Redis) -> None:
    object_cache = ObjectCache(redis, ledger_on(redis), 60, max_bytes=1500)
    others = [ObjectKey(PORTAL, "crm_deal", str(number)) for number in range(5)]
    object_cache.put([Snapshot(key, 1, "x" * 300) for key in others])
    assert [object_cache.get(key, 0) is not None for key in others] == [True, True, True, False, False]
    # What was kept of such an object is older than what was read, and serves nobody.
    object_cache.put([Snapshot(others[0], 2, "newer")])
    assert object_cache.get(others[0], 0) is None
    assert ObjectCache(redis, ledger_on(redis, portal="other"), 60, max_bytes=1500).get(others[1], 0) is None
    redis.delete(keys.cached_bytes(ledger_on(redis).stem))
    object_cache.put([Snapshot(others[0], 3, "newest")])
    assert object_cache.get(others[0], 0) is not None


def test_data_has_no_repr() -> None:
    assert "secret" not in repr(Snapshot(DEAL, 1, {"TITLE": "secret"}))


@given(data=json_values.filter(lambda value: value == value))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
def test_any_object_comes_back_as_it_was(redis: Redis, data: JSON) -> None:
    object_cache = kept(redis)
    object_cache.put([Snapshot(DEAL, 5, data)])
    found = object_cache.get(DEAL, 5)
    assert found is not None
    assert repr(found.data) == repr(data)
