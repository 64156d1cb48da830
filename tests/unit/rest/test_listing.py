"""Asking for a page of objects by their ids, against an emulated portal and one that reads filters its own way."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import pytest

from b24offline.errors import UnknownAnswer
from b24offline.events import LISTED_ENTITIES
from b24offline.rest import METHODS, ObjectLister
from tests.support.core_events import PORTAL
from tests.support.live_portal import LivePortal, emulator, live

if TYPE_CHECKING:
    from b24offline.rest import PortalClient

__all__ = ["emulator", "live"]

OBJECTS = [("crm_deal", ""), ("task", ""), ("crm_item", "1046")]


def test_every_listed_entity_has_a_list_method() -> None:
    assert set(METHODS) == LISTED_ENTITIES


class Deaf:
    """The live client, for a portal that ignores some rules of a filter."""

    def __init__(self, client: PortalClient, ignored: str) -> None:
        self._client = client
        self._ignored = re.compile(ignored)

    def call(self, method: str, params: dict[str, Any]) -> Any:
        heard = {rule: value for rule, value in params["filter"].items() if not self._ignored.match(rule)}
        return self._client.call(method, {**params, "filter": heard})


def deaf(live: LivePortal, ignored: str) -> ObjectLister:
    return ObjectLister(cast("PortalClient", Deaf(live.client, ignored)), PORTAL)


def listed(live: LivePortal, entity: str, type_id: str) -> list[str]:
    return [row.object_id for row in ObjectLister(live.client, PORTAL).changed(entity, type_id, 0, 0).rows]


@pytest.mark.parametrize(("entity", "type_id"), OBJECTS)
def test_present_returns_the_objects_that_exist(live: LivePortal, entity: str, type_id: str) -> None:
    there = listed(live, entity, type_id)[:3]
    absent = f"{type_id}:999999" if type_id else "999999"
    assert len(there) == 3
    assert ObjectLister(live.client, PORTAL).present(entity, type_id, [*there, absent]) == set(there)


def test_tasks_are_filtered_by_documented_operations_only(live: LivePortal) -> None:
    ids = listed(live, "task", "")[-2:]
    assert deaf(live, "[^A-Z!<>=]").present("task", "", [*ids, "999999"]) == set(ids)


@pytest.mark.parametrize(("entity", "type_id"), OBJECTS)
def test_a_filter_that_is_ignored_makes_nothing_look_deleted(live: LivePortal, entity: str, type_id: str) -> None:
    ids = listed(live, entity, type_id)[-2:]
    with pytest.raises(UnknownAnswer, match="not asked for"):
        deaf(live, ".").present(entity, type_id, ids)
