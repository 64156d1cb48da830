"""Ages and counts that a person must know of, from the ledger alone, and that each of them ends by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from core_events import TIMERS, entry_of, guard_on, ledger_on, opened

from b24offline.lanes import HELD_LANE, LOCAL_LANE, PARKED_LANE
from b24offline.trouble_signs import (
    OLD_SECONDS,
    PARK_SLACK_SECONDS,
    UNADOPTED_SECONDS,
    Signs,
    complaints,
    note_refused,
    note_unreadable,
    signs_of,
)

if TYPE_CHECKING:
    from redis import Redis

pytestmark = pytest.mark.unit


def told(signs: Signs, *, looks: bool = True) -> tuple[str, ...]:
    return complaints(signs, TIMERS, looks=looks)


@pytest.mark.parametrize(
    ("field", "bound", "words"),
    [
        ("oldest_seconds", OLD_SECONDS, "a batch is open for"),
        ("oldest_held_seconds", TIMERS.park_seconds + PARK_SLACK_SECONDS, "a record is held for"),
        ("oldest_orphan_seconds", UNADOPTED_SECONDS, "reservations are nobody's"),
    ],
)
def test_what_is_older_than_its_bound_is_told_and_nothing_else(field: str, bound: float, words: str) -> None:
    assert told(replace(Signs(), **{field: bound})) == ()
    [sentence] = told(replace(Signs(), **{field: bound + 1}))
    assert words in sentence


def test_what_is_known_of_orphans_is_old_when_nobody_looks() -> None:
    assert told(Signs(orphans=1, oldest_orphan_seconds=UNADOPTED_SECONDS + 1), looks=False) == ()


def test_each_lane_has_its_own_age(redis: Redis) -> None:
    ledger = ledger_on(redis)
    assert signs_of(redis, ledger) == Signs()
    for number, lane in enumerate((PARKED_LANE, LOCAL_LANE, HELD_LANE, "default"), 1):
        opened(ledger, f"p{number}", entry_of(number), lane=lane)
        # What is older is opened earlier, by the ledger's clock.
        key = f"{ledger.stem}:batch:p{number}"
        redis.hset(key, "first_seen", ledger.now_ms() - (5 - number) * 1_000_000)
    signs = signs_of(redis, ledger)
    assert 2000 <= signs.oldest_held_seconds < 2001
    assert 1000 <= signs.oldest_seconds < 1001
    assert signs.oldest_reserved_seconds == signs.oldest_held_seconds


def test_a_parked_record_that_a_person_redrives_is_given_its_time_again(redis: Redis) -> None:
    ledger = ledger_on(redis)
    opened(ledger, "p1", entry_of(1), lane=HELD_LANE)
    old = ledger.now_ms() - round((TIMERS.park_seconds + PARK_SLACK_SECONDS) * 1000) - 1000
    redis.hset(f"{ledger.stem}:batch:p1", mapping={"first_seen": old, "redriven": old})
    assert len(told(signs_of(redis, ledger))) == 1
    redis.hset(f"{ledger.stem}:batch:p1", "redriven", ledger.now_ms())
    assert told(signs_of(redis, ledger)) == ()


def test_an_orphan_is_counted_until_it_is_adopted_or_gone(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger)
    guard.sight(["a", "b"])
    redis.hincrby(f"{ledger.stem}:sightings", "a", -1_000_000)
    signs = signs_of(redis, ledger)
    assert signs.orphans == 2
    assert 1000 <= signs.oldest_orphan_seconds < 1001
    assert [told(signs)[0].startswith("2 reservations are nobody's")] == [True]
    guard.sight([])
    assert signs_of(redis, ledger) == Signs()


def test_unreadable_records_and_refused_events_are_told_until_a_look_finds_none(redis: Redis) -> None:
    ledger = ledger_on(redis)
    note_unreadable(redis, ledger, 3)
    note_refused(redis, ledger, {"ONB", "ONA"})
    assert signs_of(redis, ledger) == Signs(unreadable=3, refused=("ONA", "ONB"))
    unreadable, refused = told(signs_of(redis, ledger))
    assert unreadable.startswith("3 reserved records cannot be read")
    assert "ONA, ONB" in refused
    note_unreadable(redis, ledger, 0)
    note_refused(redis, ledger, ())
    assert signs_of(redis, ledger) == Signs()


def test_a_count_that_nobody_renews_ends_by_itself(redis: Redis) -> None:
    ledger = ledger_on(redis)
    note_unreadable(redis, ledger, 3)
    note_refused(redis, ledger, {"ONA"})
    assert 0 < redis.ttl(f"{ledger.stem}:unreadable") <= 3600
    assert redis.ttl(f"{ledger.stem}:refused") > 0
