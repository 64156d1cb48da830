"""From rows to entries of a batch."""

from __future__ import annotations

import pytest

from b24offline.delivery.intake import Unrouted, entries
from b24offline.events import MalformedRecord, ObjectKey, Routes, shipped_catalogue
from b24offline.ledger import Entry
from b24offline.rest import MALFORMED, NO_STAMP
from tests.support.core_events import PORTAL, message_of, record_of


def routed(*rows: object, unrouted: Unrouted = "ack") -> tuple[list[Entry], list[MalformedRecord]]:
    routes = Routes()
    routes.add(lambda event: event, ("ONCRMDEALUPDATE", "ONCRMDEALADD"), "first")
    routes.add(lambda event: event, ("ONCRMDEALUPDATE",), "second")
    return entries(PORTAL, rows, shipped_catalogue(), routes, unrouted)  # type: ignore[arg-type]


def test_a_record_becomes_an_event_with_its_pipelines() -> None:
    ((entry,), unusable) = routed(record_of(5, "7"))
    assert entry.pipelines == ("first", "second")
    assert entry.skip == ""
    assert entry.event.object == ObjectKey(PORTAL, "crm_deal", "7")
    assert unusable == []


@pytest.mark.parametrize(("policy", "skip"), [("ack", "succeeded"), ("nack", "failed")])
@pytest.mark.parametrize("name", ["ONCRMLEADADD", "ONNOBODYKNOWS"])
def test_without_a_pipeline_the_policy_decides(policy: Unrouted, skip: str, name: str) -> None:
    ((entry,), _) = routed(record_of(5, EVENT_NAME=name), unrouted=policy)
    assert (entry.pipelines, entry.skip) == ((), skip)


@pytest.mark.parametrize("policy", ["ack", "nack"])
def test_a_malformed_record_with_its_ids_fails_whatever_the_policy(policy: Unrouted) -> None:
    broken = MalformedRecord(5, "no name", message_id=message_of(5))
    listed = record_of(5, EVENT_NAME=MALFORMED)
    for row in (broken, listed):
        ((entry,), unusable) = routed(row, unrouted=policy)
        assert (entry.skip, entry.pipelines, unusable) == ("failed", (), [])
        assert (entry.event.record_id, entry.event.message_id) == (5, message_of(5))
        assert (entry.event.name, entry.event.stamp, entry.event.object) == (MALFORMED, NO_STAMP, None)


@pytest.mark.parametrize(
    "row", [MalformedRecord(None, "x", message_id=message_of(1)), MalformedRecord(5, "x"), MalformedRecord(None, "x")]
)
def test_a_row_without_ids_is_told_apart_and_spares_the_others(row: MalformedRecord) -> None:
    made, unusable = routed(row, record_of(1), record_of(2))
    assert [entry.event.record_id for entry in made] == [1, 2]
    assert unusable == [row]
