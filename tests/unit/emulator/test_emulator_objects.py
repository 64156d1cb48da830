"""Objects: shapes and types of each family of methods, events of every write, errors."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b24offline.emulator.state.objects import Objects
from tests.unit.emulator.emulator_bench import START, PortalBench

CLASSIC = ("lead", "deal", "contact", "company")


def events_of(bench):
    return [(row["EVENT_NAME"], row["EVENT_DATA"]) for row in bench.rows()]


@pytest.fixture
def seeded():
    return PortalBench.new(objects=60)


@pytest.mark.parametrize("entity", CLASSIC)
def test_classic_objects_are_flat_upper_case_texts(seeded, entity):
    found = seeded.ok(f"crm.{entity}.get", id=1)
    assert found["ID"] == "1"
    assert all(name == name.upper() for name in found)
    scalars = [value for name, value in found.items() if name not in ("PHONE", "EMAIL")]
    assert all(value is None or value is False or isinstance(value, str) for value in scalars)
    if entity in ("lead", "contact"):
        assert set(found["PHONE"][0]) == {"ID", "VALUE_TYPE", "VALUE", "TYPE_ID"}
        assert found["HAS_PHONE"] == "Y"


@pytest.mark.parametrize("entity", CLASSIC)
def test_classic_writes_raise_events(entity):
    names = [f"ONCRM{entity.upper()}{action}" for action in ("ADD", "UPDATE", "DELETE")]
    bench = PortalBench.new(*names)
    made = bench.ok(f"crm.{entity}.add", fields={"TITLE": "T", "OPPORTUNITY": 12.5, "EXPORT": True})
    assert made == 1
    assert bench.ok(f"crm.{entity}.get", id=made)["OPPORTUNITY"] == "12.5"
    assert bench.ok(f"crm.{entity}.get", id=made)["EXPORT"] == "Y"
    assert bench.ok(f"crm.{entity}.update", id=made, fields={"COMMENTS": "x"}) is True
    assert bench.ok(f"crm.{entity}.delete", ID="1") is True
    assert events_of(bench) == [(name, {"FIELDS": {"ID": "1"}}) for name in names]
    assert bench.refused(f"crm.{entity}.get", id=made) == (400, "")
    assert bench.refused(f"crm.{entity}.update", id=made, fields={}) == (400, "")


@pytest.mark.parametrize("object_id", ["", "0", "-1", "x", "²"])
def test_classic_ids_are_numbers(seeded, object_id):
    outcome = seeded.call("crm.deal.get", id=object_id)
    assert (outcome.status, outcome.body["error"]) == (400, "")
    assert outcome.body["error_description"] == "ID is not defined or invalid"


def test_writes_honour_the_connector():
    bench = PortalBench.new("ONCRMDEALADD", "ONCRMDEALUPDATE", "ONCRMDEALDELETE", connectors=("crm", "erp"))
    made = bench.ok("crm.deal.add", fields={}, auth_connector="crm")
    bench.ok("crm.deal.update", id=made, fields={}, auth_connector="crm")
    bench.ok("crm.deal.delete", id=made, auth_connector="crm")
    assert bench.rows("crm") == []
    assert len(bench.rows("erp")) == 3


def test_multi_fields_are_absent_when_empty(bench):
    made = bench.ok("crm.contact.add", fields={"PHONE": [{"VALUE": "+1", "VALUE_TYPE": "HOME"}]})
    found = bench.ok("crm.contact.get", id=made)
    assert found["PHONE"][0]["VALUE_TYPE"] == "HOME"
    bench.ok("crm.contact.update", id=made, fields={"PHONE": []})
    found = bench.ok("crm.contact.get", id=made)
    assert "PHONE" not in found
    assert found["HAS_PHONE"] == "N"


def test_a_deal_that_changes_its_funnel_raises_a_second_event():
    bench = PortalBench.new("ONCRMDEALUPDATE", "ONCRMDEALMOVETOCATEGORY")
    (deal,) = bench.deals(1)
    bench.ok("crm.deal.update", id=deal, fields={"CATEGORY_ID": 9, "STAGE_ID": "C9:NEW"})
    assert events_of(bench)[1] == (
        "ONCRMDEALMOVETOCATEGORY",
        {"FIELDS": {"ID": "1", "CATEGORY_ID": "9", "STAGE_ID": "C9:NEW"}},
    )


def test_a_deal_that_names_the_funnel_it_is_in_raises_one_event():
    bench = PortalBench.new("ONCRMDEALUPDATE", "ONCRMDEALMOVETOCATEGORY")
    deal = bench.ok("crm.deal.add", fields={"TITLE": "New"})
    bench.ok("crm.deal.update", id=deal, fields={"CATEGORY_ID": 0})
    assert [name for name, _ in events_of(bench)] == ["ONCRMDEALUPDATE"]


def test_items_are_camel_case_with_numbers():
    bench = PortalBench.new(*(f"ONCRMDYNAMICITEM{action}" for action in ("ADD", "UPDATE", "DELETE")))
    made = bench.ok("crm.item.add", entityTypeId=1046, fields={"title": "T", "opportunity": "5200"})["item"]
    assert (made["id"], made["entityTypeId"], made["opportunity"]) == (1, 1046, 5200)
    assert made["stageId"] == "DT1046_18:NEW"
    assert all("_" not in name or name.startswith("ufCrm") for name in made)
    changed = bench.ok("crm.item.update", entityTypeId="1046", id="1", fields={"opened": False})["item"]
    assert changed["opened"] == "N"
    assert bench.ok("crm.item.get", entityTypeId=1046, id=1)["item"] == changed
    assert bench.ok("crm.item.delete", entityTypeId=1046, id=1) == []
    assert bench.refused("crm.item.get", entityTypeId=1046, id=1) == (400, "NOT_FOUND")
    assert bench.refused("crm.item.get", entityTypeId=5, id=1) == (400, "ENTITY_TYPE_NOT_SUPPORTED")
    data = {"FIELDS": {"ID": "1", "ENTITY_TYPE_ID": "1046"}}
    assert events_of(bench) == [(f"ONCRMDYNAMICITEM{action}", data) for action in ("ADD", "UPDATE", "DELETE")]


def test_items_raise_the_event_of_their_type_if_that_is_bound():
    bench = PortalBench.new("ONCRMDYNAMICITEMADD", "ONCRMDYNAMICITEMADD_1050")
    bench.ok("crm.item.add", entityTypeId=1050, fields={})
    bench.ok("crm.item.add", entityTypeId=1046, fields={})
    assert [name for name, _ in events_of(bench)] == [
        *("ONCRMDYNAMICITEMADD", "ONCRMDYNAMICITEMADD_1050", "ONCRMDYNAMICITEMADD")
    ]


def test_tasks_are_camel_case_texts():
    bench = PortalBench.new("ONTASKADD", "ONTASKUPDATE", "ONTASKDELETE")
    made = bench.ok("tasks.task.add", fields={"TITLE": "T", "RESPONSIBLE_ID": 31})["task"]
    assert (made["id"], made["responsibleId"], made["title"]) == ("1", "31", "T")
    bench.ok("tasks.task.update", taskId=1, fields={"PRIORITY": 2})
    assert bench.ok("tasks.task.get", taskId="1")["task"]["priority"] == "2"
    bench.ok("tasks.task.delete", taskId=1)
    assert bench.ok("tasks.task.get", taskId=1) == []
    own = {"ID": "1"}
    assert events_of(bench) == [
        ("ONTASKADD", {"FIELDS_BEFORE": "undefined", "FIELDS_AFTER": own}),
        ("ONTASKUPDATE", {"FIELDS_BEFORE": own, "FIELDS_AFTER": own}),
        ("ONTASKDELETE", {"FIELDS_BEFORE": own, "FIELDS_AFTER": "undefined"}),
    ]


def test_dates_are_set_by_the_portal_only():
    bench = PortalBench.new(objects=6)
    bench.wait(60)
    later = bench.ok("server.time")
    for entity, created, changed in (
        ("crm_deal", "DATE_CREATE", "DATE_MODIFY"),
        ("crm_item", "createdTime", "updatedTime"),
        ("task", "createdDate", "changedDate"),
    ):
        found = next(bench.portal.objects.alive(entity))
        first = found.data
        assert first[created] == first[changed] < later
        bench.portal.update(found, {created: "2000-01-01T00:00:00+00:00"} if entity == "crm_deal" else {})
        assert (found.data[created], found.data[changed]) == (first[created], later)


def test_lists_are_paged_filtered_ordered_and_selected():
    bench = PortalBench.new(objects=6 * 120)
    first = bench.call("crm.deal.list", select=["ID", "TITLE"], order={"ID": "DESC"}).body
    assert (first["total"], first["next"], len(first["result"])) == (120, 50, 50)
    assert first["result"][0]["ID"] == "120"
    assert set(first["result"][0]) == {"ID", "TITLE"}
    uncounted = bench.call("crm.lead.list", filter={">ID": 100}, start=-1).body
    assert (uncounted["total"], uncounted.get("next"), len(uncounted["result"])) == (0, None, 20)
    assert "PHONE" not in uncounted["result"][0]
    assert "PHONE" in bench.ok("crm.lead.list", select=["*", "PHONE"])[0]
    items = bench.call("crm.item.list", entityTypeId=1046, filter={"@id": [1, 2]}, select=["title"]).body
    assert [set(each) for each in items["result"]["items"]] == [{"id", "title"}] * 2
    tasks = bench.call("tasks.task.list", filter={"!RESPONSIBLE_ID": 15}).body
    assert tasks["result"] == {"tasks": []}
    assert [row["ID"] for row in bench.ok("crm.deal.list", filter={"%TITLE": "", "ID": [7, 9]})] == ["7", "9"]


def test_seeded_objects_are_spread_and_raise_nothing(seeded):
    assert set(seeded.portal.objects.counts().values()) == {10}
    assert len(seeded.portal.changes) == 0
    assert len(seeded.portal.queue) == 0


def test_the_same_seed_makes_the_same_portal():
    first, other = PortalBench.new(objects=60), PortalBench.new(objects=60)
    assert first.portal.member_id == other.portal.member_id
    assert first.ok("crm.lead.get", id=3) == other.ok("crm.lead.get", id=3)


@given(st.lists(st.integers(0, 11), max_size=30), st.integers(0, 2**32))
@settings(deadline=None)
def test_deleted_objects_are_never_picked(deletions, seed):
    objects = Objects(Random(seed))
    made = [objects.add("crm_deal", START) for _ in range(12)]
    left = {each.id for each in made}
    for place in deletions:
        if made[place].id in left:
            objects.delete(made[place])
            left.discard(made[place].id)
        assert {each.id for each in objects.some("crm_deal", 99)} == left
        assert objects.counts()["crm_deal"] == len(objects) == len(left)
        picked = objects.pick("crm_deal")
        assert (picked.id in left) if left else picked is None
    assert {each.id for each in objects.everything("crm_deal")} == {each.id for each in made}
