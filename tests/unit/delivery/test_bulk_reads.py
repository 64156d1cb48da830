"""How reads share requests."""

from __future__ import annotations

from b24offline.delivery.bulk_reads import Get, Listing, requests_for
from b24offline.events import ObjectKey, ObjectRead, shipped_catalogue


def reads(entity: str, *object_ids: str) -> dict[ObjectKey, ObjectRead]:
    keys = [ObjectKey("acme", entity, object_id) for object_id in object_ids]
    found = {key: shipped_catalogue().getter(key) for key in keys}
    return {key: read for key, read in found.items() if read}


def many(entity: str, count: int, begin: str = "") -> dict[ObjectKey, ObjectRead]:
    return reads(entity, *(f"{begin}{number}" for number in range(1, count + 1)))


def sizes(request: tuple[Get | Listing, ...]) -> list[int]:
    return [len(one.keys) for one in request]


def test_five_hundred_objects_are_one_request() -> None:
    (request,) = requests_for(many("crm_deal", 500), ())
    assert sizes(request) == [50] * 10
    assert {key for one in request for key in one.keys} == set(many("crm_deal", 500))


def test_each_entity_and_type_is_a_list_of_its_own_and_what_stands_alone_is_got() -> None:
    wanted = {**many("crm_item", 3, "1046:"), **many("crm_item", 2, "1050:"), **many("crm_lead", 1), **many("task", 2)}
    (request,) = requests_for(wanted, ())
    assert [type(one).__name__ for one in request] == ["Listing", "Listing", "Get", "Get", "Get"]
    assert sizes(request) == [3, 2, 1, 1, 1]


def test_fifty_commands_fill_a_request() -> None:
    first, second = requests_for({**many("task", 60), **many("crm_deal", 60)}, ())
    assert (len(first), len(second)) == (50, 12)


def test_entities_can_be_read_by_get_and_a_second_reading_is_never_by_list() -> None:
    assert all(
        isinstance(one, Get) for (*request,) in requests_for(many("crm_deal", 60), ("crm_deal",)) for one in request
    )
    assert all(isinstance(one, Get) for (*request,) in requests_for(many("crm_deal", 60)) for one in request)


def test_nothing_is_no_request() -> None:
    assert requests_for({}, ()) == []
