"""The mirror on both databases: the latest reading wins in whatever order readings arrive."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from b24offline.errors import LedgerClockBehind
from b24offline.store import Cipher, Mirror, MirrorRow, Reading, Store
from b24offline.store.mirror import without_infinities
from b24offline.store.schema import OBJECTS
from tests.support.store_bench import KEY, Clock, postgres_database

if TYPE_CHECKING:
    from b24offline.events import JSON

MOMENT = datetime(2026, 4, 3, 8, 44, 10, tzinfo=UTC)


@pytest.fixture
def mirror(store: Store) -> Mirror:
    return Mirror(store.engine)


def test_a_database_without_an_encoding_keeps_every_letter(clock: Clock) -> None:
    with postgres_database("TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'") as address:
        store = Store(address, Cipher([KEY]), clock=clock)
        store.create_schema()
        mirror = Mirror(store.engine)
        mirror.write("acme", [Reading("crm_deal", "1", {"TITLE": "Сделка №1 – ü"}, 1000, MOMENT)])
        assert row_of(mirror, "1", "crm_deal").data == {"TITLE": "Сделка №1 – ü"}
        store.engine.dispose()


def row_of(mirror: Mirror, object_id: str = "1", entity: str = "task") -> MirrorRow:
    row = mirror.row("acme", entity, object_id)
    assert row is not None
    return row


def test_an_object_comes_back_as_it_was_read(mirror: Mirror) -> None:
    local = datetime.fromisoformat("2026-04-03T10:44:10+02:00")
    assert mirror.write("acme", [Reading("crm_deal", "123", {"ID": "123"}, 1000, local)])
    row = row_of(mirror, "123", "crm_deal")
    assert (row.data, row.changed_at, row.deleted_at, row.read_at) == ({"ID": "123"}, MOMENT, None, 1000)
    assert datetime.now(UTC) - row.updated_at < timedelta(minutes=5)
    assert mirror.row("acme", "crm_deal", "124") is None
    assert "123'}" not in repr(row)


def test_without_an_own_date_the_time_of_reading_counts(mirror: Mirror) -> None:
    mirror.write("acme", [Reading("user", "1", {}, 1_775_200_000_500)])
    row = row_of(mirror, "1", "user")
    assert row.changed_at == datetime.fromtimestamp(1_775_200_000.5, UTC)


def test_naive_times_are_refused(mirror: Mirror) -> None:
    with pytest.raises(sa.exc.StatementError, match="without time zone"):
        mirror.write("acme", [Reading("user", "1", {}, 1, datetime(2026, 1, 1))])  # noqa: DTZ001


def test_a_reading_ahead_of_the_clock_is_told_from_a_later_one(mirror: Mirror) -> None:
    mirror.write("acme", [Reading("task", "1", {"v": 2}, 20_000)])
    mirror.refuse_clock_behind("acme", "task", "1", now_ms=20_000)
    mirror.refuse_clock_behind("acme", "task", "2", now_ms=0)
    with pytest.raises(LedgerClockBehind, match="task 1 is 15 s ahead"):
        mirror.refuse_clock_behind("acme", "task", "1", now_ms=5_000)


def test_an_earlier_reading_that_arrives_late_changes_nothing(mirror: Mirror) -> None:
    assert mirror.write("acme", [Reading("task", "1", {"v": 2}, 20)])
    assert not mirror.write("acme", [Reading("task", "1", {"v": 1}, 19)])
    assert not mirror.write("acme", [Reading("task", "1", None, 19)])
    assert mirror.write("acme", [Reading("task", "1", {"v": 3}, 20)])
    row = row_of(mirror)
    assert (row.data, row.deleted_at) == ({"v": 3}, None)


def test_a_deletion_keeps_the_last_data_until_the_object_returns(mirror: Mirror) -> None:
    mirror.write("acme", [Reading("task", "1", {"v": 1}, 1, MOMENT)])
    assert mirror.write("acme", [Reading("task", "1", None, 3_600_000)])
    row = row_of(mirror)
    assert (row.data, row.changed_at) == ({"v": 1}, MOMENT)
    assert row.deleted_at == datetime(1970, 1, 1, 1, tzinfo=UTC), "when it was read"
    assert not mirror.write("acme", [Reading("task", "1", {"v": 1}, 1)])
    assert mirror.write("acme", [Reading("task", "1", {"v": 2}, 3_600_001)])
    row = row_of(mirror)
    assert (row.data, row.deleted_at) == ({"v": 2}, None)


def test_an_unknown_object_can_be_gone(mirror: Mirror) -> None:
    assert mirror.write("acme", [Reading("task", "9", None, 2_000)])
    row = row_of(mirror, "9")
    assert (row.data, row.deleted_at) == (None, datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC))


def test_rows_are_those_of_one_portal_in_the_order_of_the_key(mirror: Mirror) -> None:
    for portal, entity, object_id in (("b", "task", "1"), ("a", "task", "2"), ("a", "crm_item", "1046:7")):
        mirror.write(portal, [Reading(entity, object_id, {}, 1)])
    assert [(row.entity, row.object_id) for row in mirror.rows("a")] == [
        ("crm_item", "1046:7"),
        ("task", "2"),
    ]
    assert list(mirror.rows("c")) == []


@pytest.mark.parametrize(
    "data",
    [
        {"name": "\U0001f600\x00 NUL and \ud83d half a pair", "quote": "'\"\\ $1 %s :x"},
        {"big": 2**200, "small": -(2**63), "money": 5200.1, "tiny": 5e-324},
        {"text": "x" * 1_000_000},
        dict.fromkeys((f"field {number}" for number in range(10_000)), ""),
        [1, [None, False], {}],
        "text",
    ],
    ids=["characters", "numbers", "megabyte", "keys", "list", "scalar"],
)
def test_heavy_and_odd_documents_survive(mirror: Mirror, data: JSON) -> None:
    mirror.write("acme", [Reading("crm_deal", "1", data, 1)])
    row = row_of(mirror, "1", "crm_deal")
    assert row.data == data


def test_what_json_cannot_hold_becomes_null(mirror: Mirror) -> None:
    data: JSON = {"sum": [float("inf"), float("nan"), 1.5]}
    assert without_infinities(data) == {"sum": [None, None, 1.5]}
    mirror.write("acme", [Reading("crm_deal", "1", data, 1)])
    row = row_of(mirror, "1", "crm_deal")
    assert row.data == {"sum": [None, None, 1.5]}


operations = st.lists(
    st.tuples(st.integers(1, 40), st.booleans()),
    min_size=1,
    max_size=8,
    unique_by=lambda operation: operation[0],
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations)
def test_any_interleaving_ends_in_the_state_of_the_latest_reading(
    store: Store, mirror: Mirror, order: list[tuple[int, bool]]
) -> None:
    with store.engine.begin() as connection:
        connection.execute(sa.delete(OBJECTS))
    seen = 0
    for read_at, deleted in order:
        if deleted:
            stored = mirror.write("acme", [Reading("task", "1", None, read_at)])
        else:
            stored = mirror.write("acme", [Reading("task", "1", {"read": read_at}, read_at)])
        assert bool(stored) == (read_at > seen)
        seen = max(seen, read_at)
    row = row_of(mirror)
    latest, deleted = max(order)
    assert (row.read_at, row.deleted_at is not None) == (latest, deleted)
    if not deleted:
        assert row.data == {"read": latest}


readings = st.lists(
    st.builds(
        Reading,
        st.just("task"),
        st.sampled_from("1234"),
        st.none() | st.integers(0, 9).map(lambda number: {"v": number}),
        st.integers(1, 6),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(readings, max_size=4))
def test_many_readings_at_once_end_as_one_by_one(store: Store, mirror: Mirror, written: list[list[Reading]]) -> None:
    with store.engine.begin() as connection:
        connection.execute(sa.delete(OBJECTS))
    for together in written:
        latest = {one.key: one for one in sorted(together, key=lambda one: one.read_at)}
        alone = {one.key for one in latest.values() if mirror.write("alone", [one])}
        assert mirror.write("acme", together) == alone, "what was stored depends on what was written beside it"
    rows = [
        [(row.object_id, row.data, row.read_at, row.deleted_at) for row in mirror.rows(name)]
        for name in ("acme", "alone")
    ]
    assert rows[0] == rows[1]
