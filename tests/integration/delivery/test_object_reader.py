"""Objects read in bulk and one by one, from an emulated portal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline.delivery import NotReadable
from b24offline.delivery.object_reader import ForeignAnswer, ObjectReader
from b24offline.errors import ServerError
from b24offline.events import ObjectKey, shipped_catalogue
from b24offline.ledger import ObjectCache
from tests.support.core_events import PORTAL, ledger_on
from tests.support.live_portal import LivePortal, emulator, live

if TYPE_CHECKING:
    from redis import Redis

    from b24offline.ledger import Ledger

__all__ = ["emulator", "live"]


class Bench:
    def __init__(self, redis: Redis, portal: LivePortal) -> None:
        self.portal = portal
        self.ledger: Ledger = ledger_on(redis)
        self.object_cache = ObjectCache(redis, self.ledger, 60)
        self.reader = ObjectReader(portal.client, shipped_catalogue(), self.object_cache, self.ledger)
        self.start = portal.seq()

    def keys(self, entity: str, count: int) -> list[ObjectKey]:
        ids = self.portal.control.change(entity, "update", count=count)
        self.start = self.portal.seq()
        return [ObjectKey(PORTAL, entity, one) for one in ids]

    def calls(self) -> list[str]:
        return self.portal.calls_since(self.start)


@pytest.fixture
def bench(redis: Redis, live: LivePortal) -> Bench:
    return Bench(redis, live)


def test_fifty_objects_are_one_request(bench: Bench) -> None:
    keys = [*bench.keys("crm_deal", 20), *bench.keys("crm_lead", 20), *bench.keys("task", 12)]
    before = bench.ledger.now_ms()
    assert bench.reader.prefetch(keys) == 52
    assert bench.calls() == ["batch", "batch"]
    for key in keys:
        found = bench.reader.read(key, before)
        assert isinstance(found.data, dict)
        assert str(found.data.get("ID") or found.data.get("id")) == key.object_id
    assert bench.calls() == ["batch", "batch"]


def test_an_object_that_was_not_prefetched_is_read_alone_and_kept(bench: Bench) -> None:
    (key,) = bench.keys("crm_deal", 1)
    now = bench.ledger.now_ms()
    found = bench.reader.read(key, now)
    assert found.read_ms >= now
    assert bench.reader.read(key, now) == found
    assert bench.calls() == ["crm.deal.get"]


def test_an_older_snapshot_does_not_serve_a_newer_event(bench: Bench) -> None:
    (key,) = bench.keys("crm_deal", 1)
    first = bench.reader.read(key, bench.ledger.now_ms())
    bench.portal.control.change("crm_deal", "update", ids=[key.object_id], fields={"TITLE": "changed"})
    again = bench.reader.read(key, first.read_ms + 1)
    assert isinstance(again.data, dict)
    assert again.data["TITLE"] == "changed"
    assert again.read_ms > first.read_ms


@pytest.mark.parametrize("entity", ["crm_deal", "task"])
def test_an_object_that_is_gone_is_a_snapshot_without_data(bench: Bench, entity: str) -> None:
    gone, there = bench.keys(entity, 2)
    bench.portal.control.change(entity, "delete", ids=[gone.object_id])
    assert bench.reader.prefetch([gone, there]) == 2
    assert bench.reader.read(gone, 0).data is None
    assert bench.reader.read(there, 0).data is not None
    assert bench.reader.read(gone, bench.ledger.now_ms() + 1_000).data is None


def test_what_fails_in_bulk_is_read_again_later(bench: Bench) -> None:
    one, other = bench.keys("crm_deal", 2)
    bench.portal.control.fault("batch/crm.deal.get", "error", status=500, where={"id": one.object_id})
    assert bench.reader.prefetch([one, other]) == 1
    bench.portal.control.disarm()
    assert bench.reader.read(one, 0).data is not None
    assert bench.calls() == ["batch", "crm.deal.get"]


def test_trouble_of_the_portal_is_not_taken_for_a_missing_object(bench: Bench) -> None:
    (key,) = bench.keys("crm_deal", 1)
    bench.portal.control.fault("crm.deal.get", "error", status=500)
    with pytest.raises(ServerError):
        bench.reader.read(key, 0)
    assert bench.object_cache.get(key, 0) is None


def test_what_no_method_reads_is_refused_and_left_out_of_the_bulk(bench: Bench) -> None:
    unknown = ObjectKey(PORTAL, "no_such_entity", "1")
    with pytest.raises(NotReadable, match="no method reads"):
        bench.reader.read(unknown, 0)
    assert bench.reader.prefetch([unknown]) == 0
    assert bench.reader.prefetch([]) == 0
    assert bench.calls() == []


def test_an_answer_with_something_else_is_no_object_that_is_gone(bench: Bench) -> None:
    (key,) = bench.keys("task", 1)
    bench.portal.control.fault("tasks.task.get", "status", status=200, body={"result": {"other": {"id": "1"}}})
    with pytest.raises(ForeignAnswer, match=r"tasks\.task\.get did not answer with task"):
        bench.reader.read(key, 0)
    assert bench.object_cache.get(key, 0) is None
