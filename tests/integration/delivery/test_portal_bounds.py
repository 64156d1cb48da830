"""A portal that sends more than it may: what is beyond the bounds stays on the portal and is handled part by part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline import keys
from b24offline.config import Lane
from b24offline.delivery import portal_bounds
from b24offline.ledger import BatchKind, noted_oversized
from b24offline.rest import offline_queue
from tests.support.core_events import TIMERS
from tests.support.deployment import LANE, WIDE_LANE, Deployment

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

LARGE = {"FIELDS": {"ID": "7"}, "TEXT": "x" * 70_000}


@pytest.fixture
def acme(redis: Redis, tmp_path: Path) -> Deployment:
    return Deployment(redis, tmp_path, B24_UNROUTED="nack", B24_PORTAL_LEDGER_BYTES=str(1 << 20))


def noted(acme: Deployment) -> str:
    return noted_oversized(acme.redis, acme.ledger)


def work_off(acme: Deployment, process_id: str) -> None:
    """Run and settle all of a batch."""
    for handed in acme.ledger.start(process_id):
        acme.ledger.succeed(handed.run, handed.attempt)
    acme.later(TIMERS.in_doubt_seconds + 1)
    assert acme.settler.settle(process_id).state == "closed"


def adopted(acme: Deployment) -> tuple[str, ...]:
    """Adopt in as many looks as it takes, within minutes."""
    for _ in range(3):
        if found := acme.poller.adopt():
            return found
        acme.later(TIMERS.sighting_seconds + 1)
    return ()


def test_rows_beyond_the_limit_are_adopted_part_by_part(acme: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline_queue, "ADOPTED_AT_ONCE", 3)
    acme.desk.surplus = 7
    acme.changes(*"123456789")
    (pid,) = acme.poller.poll(LANE).opened
    assert len(acme.ledger.events(pid)) == LANE.batch_size
    assert noted(acme) == "a reserving call returned 7 records more than it asked for"
    work_off(acme, pid)
    sizes = []
    while acme.desk.rows():
        assert adopted(acme) == (pid,)
        sizes.append(len(acme.ledger.events(pid)))
        work_off(acme, pid)
    assert sizes == [3, 3, 1]


def test_a_failed_record_beside_surplus_rows_is_nacked(acme: Deployment) -> None:
    acme.desk.surplus = 120
    acme.changes(*(str(number) for number in range(1, 122)))
    (pid,) = acme.poller.poll(LANE).opened
    for handed in acme.ledger.start(pid):
        acme.ledger.fail(handed.run, handed.attempt, "Boom", backoff_seconds=1)
    acme.later(TIMERS.nack_age_seconds + 1)
    acme.desk.calls.clear()
    assert acme.settler.settle(pid).nacked == 2
    lists = [sent["filter"] for method, sent in acme.desk.calls if method == "event.offline.list"]
    assert lists[0] == {"=PROCESS_ID": pid, "<=ID": 2, ">ID": 0}, "all that was reserved is read"


def test_a_record_that_is_too_large_is_nacked_alone(acme: Deployment) -> None:
    acme.changes("1")
    acme.desk.change("7", data=LARGE)
    acme.changes("3")
    (pid,) = acme.poller.poll(WIDE_LANE).opened
    assert "records with more than 65536 bytes, nacked without running: 2" in noted(acme)
    assert len(acme.ledger.start(pid)) == 2
    assert acme.outcomes(pid) == {1: "unfinished", 2: "failed", 3: "unfinished"}
    acme.later(TIMERS.nack_age_seconds + 1)
    assert acme.settler.settle(pid).nacked == 1
    assert [row.id for row in acme.desk.rows().values() if row.nacked] == [2]
    assert max(map(len, acme.redis.hvals(f"{acme.ledger.stem}:batch:{pid}:records")), default=0) < 2000


def test_a_large_record_is_run_when_its_portal_behaves(acme: Deployment) -> None:
    record = acme.desk.change("7", data=LARGE)
    acme.desk.queue.mark(acme.desk.now, acme.desk.rows()[record])
    assert list(acme.services.redriver.turn(lambda event, pipeline: False)) == []
    acme.later(TIMERS.redrive_backoff_seconds[0] + 1)
    assert list(acme.services.redriver.turn(lambda event, pipeline: False)) == []
    acme.desk.distort = lambda row: {**row, "EVENT_DATA": {"FIELDS": {"ID": "7"}}}
    (pid,) = acme.services.redriver.turn(lambda event, pipeline: False)
    assert acme.ledger.kind(pid) is BatchKind.RETRYING


def test_after_an_answer_that_is_too_large_records_come_one_by_one(acme: Deployment) -> None:
    acme.changes(*"1234")
    acme.desk.answer_bytes = 350
    # A page of the list has more rows than an answer may: it is read in ranges of ids.
    polled = acme.poller.poll(LANE)
    assert polled.state == "adopted"
    assert [list(acme.ledger.events(process_id)) for process_id in polled.opened] == [[1, 2]]
    assert "event.offline.get: the answer is longer than 350 bytes" in noted(acme)
    acme.later(TIMERS.poll_lease_seconds + 1)
    polled = acme.poller.poll(LANE)
    assert (polled.received, polled.asked) == (1, 1)
    acme.redis.delete(keys.one_by_one(acme.ledger.stem))
    assert acme.poller.poll(LANE).asked == LANE.batch_size


def test_a_batch_grows_with_what_arrives_and_an_answer_that_is_too_large_makes_it_small(acme: Deployment) -> None:
    growing, asked = Lane(name="default"), []
    acme.changes(*map(str, range(1, 221)))
    for _ in range(3):
        polled = acme.poller.poll(growing)
        asked.append((polled.asked, polled.received))
        acme.later(TIMERS.poll_lease_seconds + 1)
    assert asked == [(50, 50), (100, 100), (200, 70)]
    assert acme.poller.poll(growing).asked == 140
    assert acme.poller.poll(growing).asked == 50, "after a poll that found nothing"
    assert not acme.redis.exists(keys.batch_sizes(acme.ledger.stem)), "an idle portal keeps nothing"
    acme.services.lanes.note_batch_size("default", 500)
    acme.changes("400", "401", "402", "403")
    acme.desk.answer_bytes = 350
    assert acme.poller.poll(growing).state == "adopted"
    acme.desk.answer_bytes = 1 << 20
    acme.later(TIMERS.poll_lease_seconds + 1)
    acme.services.lanes.note_batch_size("default", 500)
    assert acme.poller.poll(growing).asked == 50, "and not one by one"


def test_a_large_batch_counts_for_as_many_as_it_would_be_in_small_ones(redis: Redis, tmp_path: Path) -> None:
    sizes = {"B24_BATCH_SIZE": "5", "B24_BATCH_SIZE_MAX": "100", "B24_MAX_IN_FLIGHT_BATCHES": "8"}
    acme = Deployment(redis, tmp_path, **sizes)
    lane = acme.services.config.all_lanes["default"]
    acme.services.lanes.note_batch_size("default", 100)
    acme.changes(*map(str, range(1, 101)))
    first = acme.poller.poll(lane)
    assert first.asked == 20, "half of what may be open: 8 times 5"
    second = acme.poller.poll(lane)
    assert (second.state, second.asked) == ("opened", 20)
    assert acme.poller.poll(lane).state == "full"
    (pid,) = first.opened
    for handed in acme.ledger.start(pid)[:16]:
        acme.ledger.succeed(handed.run, handed.attempt)
    acme.later(TIMERS.in_doubt_seconds + 1)
    assert acme.settler.settle(pid).state == "open"
    acme.services.lanes.note_batch_size("default", 15)
    assert acme.poller.poll(lane).asked == 15, "four of twenty records are left, which take one place of four"
    assert acme.poller.poll(lane).state == "full"
    for process_id in acme.ledger.open_batches():
        acme.ledger.forget(process_id)
    assert not acme.redis.exists(keys.open_counts(acme.ledger.stem)), "and all is given back"


def test_records_larger_than_an_answer_stop_neither_polls_nor_adoption(acme: Deployment) -> None:
    acme.changes("1", "2")
    huge = acme.desk.change("7", data=LARGE)
    acme.changes("4", "5")
    acme.desk.answer_bytes = 60_000
    polled = acme.poller.poll(WIDE_LANE)
    (orphan,) = polled.opened
    assert polled.state == "adopted"
    assert list(acme.ledger.events(orphan)) == [1, 2, 4, 5]
    work_off(acme, orphan)
    assert list(acme.desk.rows()) == [huge]
    assert acme.redis.smembers(keys.too_large(acme.ledger.stem)) == {str(huge)}
    acme.changes("8")
    assert acme.poller.poll(WIDE_LANE).state == "opened"
    acme.desk.answer_bytes = 1 << 23
    acme.desk.distort = lambda row: {**row, "EVENT_DATA": {"FIELDS": {"ID": "7"}}}
    (orphan,) = adopted(acme)
    assert list(acme.ledger.events(orphan)) == [huge]
    assert not acme.redis.exists(keys.too_large(acme.ledger.stem))


def test_too_many_records_larger_than_an_answer_close_the_gate(acme: Deployment) -> None:
    acme.changes(*(str(number) for number in range(1, portal_bounds.MOST_TOO_LARGE + 1)))
    acme.poller.poll(WIDE_LANE)
    acme.redis.sadd(keys.too_large(acme.ledger.stem), *acme.desk.rows())
    assert acme.poller.poll(LANE).state == "too_large"
    assert "larger than an answer may be" in noted(acme)
    acme.poller.adopt()  # they can be read again
    assert acme.poller.poll(LANE).state == "empty"


def test_open_events_beyond_the_quota_pause_polls_and_adoption(acme: Deployment) -> None:
    for number in range(60):
        acme.desk.change(str(number), data={"FIELDS": {"ID": str(number)}, "TEXT": "x" * 30_000})
    batches = []
    while (polled := acme.poller.poll(LANE)).state == "opened":
        batches += polled.opened
        assert len(batches) < 30
    assert polled.state == "over_quota"
    assert "its open events have 1048576 bytes or more in the ledger" in noted(acme)
    held = sum(acme.redis.memory_usage(key, samples=0) for key in acme.redis.scan_iter(f"{acme.ledger.stem}:*"))
    assert held < 1.3 * (1 << 20)
    acme.ledger.forget(batches.pop())
    acme.later(1)
    assert acme.poller.poll(LANE).state == "opened"
    for process_id in list(acme.ledger.open_batches()):
        acme.ledger.forget(process_id)
    assert int(acme.redis.hget(keys.open_counts(acme.ledger.stem), "bytes:new") or 0) == 0


def test_a_ledger_that_is_nearly_full_pauses_polls(acme: Deployment) -> None:
    acme.changes("1")
    used = int(acme.redis.info("memory")["used_memory"])
    acme.redis.config_set("maxmemory", round(used / 0.9))
    try:
        assert acme.poller.poll(LANE).state == "ledger_full"
        acme.redis.config_set("maxmemory", used * 4)
        assert acme.poller.poll(LANE).state == "opened"
    finally:
        acme.redis.config_set("maxmemory", 0)
