"""The catalogue: all its rows hold together, and reading objects works on the documented answers."""

from __future__ import annotations

import re

import pytest

from b24offline.events import (
    JSON,
    EventKind,
    ObjectKey,
    ObjectRead,
    changed_at,
    object_id_from,
    object_in,
    shipped_catalogue,
)
from b24offline.events.event import ACTIONS

CATALOGUE = shipped_catalogue()
PATH = re.compile(r"\.|[A-Za-z_]+(\[0\])?(\.[A-Za-z_]+(\[0\])?)*")


def payload_for(id_path: str, values: list[str]) -> JSON:
    """Return a payload with these values at the paths of an id."""
    if id_path == ".":
        return values[0]
    root: dict[str, JSON] = {}
    for path, value in zip(id_path.split("+"), values, strict=True):
        node: dict[str, JSON] = root
        *outer, last = path.split(".")
        for step in outer:
            name, _, index = step.partition("[")
            inner = node.setdefault(name, [{}] if index else {})
            node = inner[0] if isinstance(inner, list) else inner  # type: ignore[assignment]
        node[last] = value
    return root


def test_there_are_213_events() -> None:
    assert len(CATALOGUE.kinds) == 213


@pytest.mark.parametrize("kind", CATALOGUE.kinds, ids=lambda kind: kind.name)
def test_every_row_holds_together(kind: EventKind) -> None:
    name = kind.name.replace("{ENTITYTYPEID}", "1046")
    found = CATALOGUE.lookup(name.lower())
    assert found is not None
    assert (found.name, found.entity, found.action) == (name, kind.entity, kind.action)
    assert kind.name == kind.name.upper()
    assert kind.action in ACTIONS
    assert kind.offline in {"yes", "no"}
    assert re.fullmatch(r"[a-z0-9_]+", kind.entity)
    for verb in ("ADD", "UPDATE", "DELETE"):
        if name.removesuffix("_1046").endswith(verb) and "BEFORE" not in name and "CONTEXT" not in name:
            assert kind.action in {verb.lower(), "other"}

    parts = kind.id_path.split("+") if kind.id_path else []
    assert all(PATH.fullmatch(part) for part in parts)
    values = [str(number) for number in range(11, 11 + len(parts))]
    if parts:
        object_id = object_id_from(payload_for(kind.id_path, values), found)
        assert object_id == ":".join(values)
        assert object_id_from(None, found) is None
        assert object_id_from(False, found) is None or kind.id_path == "."
    else:
        assert object_id_from({"ID": "1"}, found) is None

    assert bool(kind.get_method) == bool(kind.get_params) == bool(kind.result_path)
    if kind.get_method:
        assert kind.result_path.startswith("result")
        read = CATALOGUE.getter(ObjectKey("acme", kind.entity, ":".join(values)))
        assert read is not None
        assert read.method == kind.get_method
        assert all(value in str(read.params) for value in values)
    elif kind.action == "delete":
        assert not kind.get_method


def test_unknown_names_have_no_kind() -> None:
    for name in (
        "",
        "ONNOBODYKNOWS",
        "ONCRMDEALADD_147",
        "ONCRMDYNAMICITEMADD_0",
        "ONCRMDYNAMICITEMADD_{ENTITYTYPEID}",
    ):
        assert CATALOGUE.lookup(name) is None


@pytest.mark.parametrize(
    ("entity", "object_id", "method", "params"),
    [
        ("crm_deal", "123", "crm.deal.get", {"id": "123"}),
        ("crm_item", "1046:7", "crm.item.get", {"entityTypeId": "1046", "id": "7"}),
        ("task", "3307", "tasks.task.get", {"taskId": "3307"}),
        ("user", "15", "user.get", {"FILTER": {"ID": "15"}}),
        ("crm_type_userfield", "4", "userfieldconfig.get", {"moduleId": "crm", "id": "4"}),
        ("task_comment", "3307:12", "task.commentitem.get", {"TASKID": "3307", "ITEMID": "12"}),
        (
            "crm_address",
            "1:8:3",
            "crm.address.list",
            {"filter": {"TYPE_ID": "1", "ENTITY_TYPE_ID": "8", "ENTITY_ID": "3"}},
        ),
        ("telephony_call", "a:b", "voximplant.statistic.get", {"FILTER": {"CALL_ID": "a:b"}}),
    ],
)
def test_how_objects_are_read(entity: str, object_id: str, method: str, params: dict[str, JSON]) -> None:
    read = CATALOGUE.getter(ObjectKey("acme", entity, object_id))
    assert read is not None
    assert (read.method, read.params) == (method, params)
    nested = [value for value in params.values() if isinstance(value, dict)]
    assert read.asked == (nested[0] if nested else {})


def test_what_cannot_be_read() -> None:
    for entity, object_id in (("calendar_section", "1"), ("unheard_of", "1"), ("crm_item", "7")):
        assert CATALOGUE.getter(ObjectKey("acme", entity, object_id)) is None


@pytest.mark.parametrize(
    ("result", "path", "found"),
    [
        ({"ID": "1"}, "result", {"ID": "1"}),
        ({"item": {"id": 7}}, "result.item", {"id": 7}),
        ({"item": None}, "result.item", None),
        ({"task": []}, "result.task", None),
        ([{"ID": "15"}], "result[0]", {"ID": "15"}),
        ([], "result[0]", None),
        ([], "result", None),
        ([], "result.task", None),
        ({}, "result.task", None),
        (None, "result.item", None),
        (False, "result", None),
        (0, "result", 0),
        ("", "result", ""),
    ],
)
def test_the_object_in_an_answer(result: JSON, path: str, found: JSON) -> None:
    assert object_in(result, ObjectRead("m", {}, path, {"ID": "15"} if path == "result[0]" else {})) == found


@pytest.mark.parametrize(
    ("result", "path"),
    [
        ({"offer": {"id": 9}}, "result.product"),
        ("text", "result.item"),
        ({"0": {"ID": "15"}}, "result[0]"),
        ([{"ID": "1"}, {"ID": "15"}], "result[0]"),
        ([{"ID": None}], "result[0]"),
    ],
)
def test_another_object_or_shape_is_not_taken_for_a_deleted_one(result: JSON, path: str) -> None:
    with pytest.raises(ValueError, match=r"nothing is at its|not the one asked for"):
        object_in(result, ObjectRead("m", {}, path, {"ID": "15"}))


@pytest.mark.parametrize(
    ("entity", "data", "moment"),
    [
        (
            "crm_deal",
            {"DATE_CREATE": "x", "DATE_MODIFY": "2026-04-03T08:44:10+02:00"},
            "2026-04-03T08:44:10+02:00",
        ),
        ("crm_item", {"updatedTime": "2026-04-03T10:09:31+02:00"}, "2026-04-03T10:09:31+02:00"),
        ("task", {"changedDate": "2026-04-03T11:02:12+02:00"}, "2026-04-03T11:02:12+02:00"),
        ("crm_activity", {"LAST_UPDATED": "2026-04-03T10:24:30+02:00"}, "2026-04-03T10:24:30+02:00"),
        ("catalog_product", {"timestampX": "2026-04-01T16:45:35+02:00"}, "2026-04-01T16:45:35+02:00"),
        ("user", {"TIMESTAMP_X": {}}, None),
        ("calendar_event", {"TIMESTAMP_X": "04/03/2026 11:30:00 am"}, None),
        ("crm_deal", {"DATE_MODIFY": "2026-04-03T08:44:10"}, None),
        ("crm_deal", {"DATE_MODIFY": "0001-01-01T00:00:00+14:00"}, None),
        ("crm_deal", {"DATE_MODIFY": ""}, None),
        ("crm_deal", None, None),
        ("crm_deal", [], None),
    ],
)
def test_when_an_object_changed(entity: str, data: JSON, moment: str | None) -> None:
    assert changed_at(entity, data) == moment
