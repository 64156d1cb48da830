"""Objects read by list: the call, and what its answer may be."""

from __future__ import annotations

import pytest

from b24offline.rest import list_command, list_of, listed_objects
from b24offline.rest.list_reading import SELECTED
from b24offline.rest.php_query import php_query


@pytest.mark.parametrize(
    ("entity", "object_id", "place"),
    [
        ("crm_deal", "7", ("", 7)),
        ("crm_item", "1046:7", ("1046", 7)),
        ("crm_item", "7", None),
        ("crm_deal", "1046:7", None),
        ("crm_deal", "007", None),
        ("crm_deal", "x", None),
        ("crm_deal", "", None),
        ("crm_item", "a:7", None),
        ("task", "7", None),
        ("user", "7", None),
    ],
)
def test_only_what_a_list_answers_whole_is_listed(entity: str, object_id: str, place: tuple[str, int] | None) -> None:
    assert list_of(entity, object_id) == place


@pytest.mark.parametrize("entity", SELECTED)
def test_a_list_asks_for_ids_without_a_count_and_names_what_no_mask_selects(entity: str) -> None:
    command = list_command(entity, "1046" if entity == "crm_item" else "", [3, 5])
    name = "@id" if entity == "crm_item" else "@ID"
    assert command.params["filter"] == {name: [3, 5]}
    assert command.params["start"] == -1
    assert ("PHONE" in command.params["select"]) is (entity in {"crm_lead", "crm_contact", "crm_company"})  # type: ignore[operator]
    assert ("entityTypeId" in command.params) is (entity == "crm_item")
    assert php_query(command.params), "it can stand in a batch"


@pytest.mark.parametrize("numbers", [[], list(range(1, 52))])
def test_a_page_holds_fifty(numbers: list[int]) -> None:
    with pytest.raises(ValueError, match="1 to 50"):
        list_command("crm_deal", "", numbers)


def test_what_a_list_leaves_out_is_not_there() -> None:
    assert listed_objects("crm_deal", [{"ID": "3"}], [3, 5]) == {3: {"ID": "3"}}
    assert listed_objects("crm_item", {"items": [{"id": 5}]}, [3, 5]) == {5: {"id": 5}}
    assert listed_objects("crm_deal", [], [3]) == {}


@pytest.mark.parametrize(
    ("entity", "result"),
    [
        ("crm_deal", [{"ID": "3"}, {"ID": "4"}]),
        ("crm_deal", [{"TITLE": "x"}]),
        ("crm_deal", [None]),
        ("crm_deal", {"3": {"ID": "3"}}),
        ("crm_deal", None),
        ("crm_item", {"item": {"id": 3}}),
        ("crm_item", {"items": [{"id": "x"}]}),
    ],
)
def test_an_answer_of_another_shape_is_refused(entity: str, result: object) -> None:
    with pytest.raises(ValueError, match="list"):
        listed_objects(entity, result, [3, 5])  # type: ignore[arg-type]
