"""Lists objects of a portal by the date of their last change, page by page, ordered by id, never by offset.

Possible for entities with a list method that filters by that date: leads, deals, contacts, companies, items of smart
processes and tasks. Source: the vendor's pages on `crm.*.list`, `crm.item.list`, `crm.type.list`, `tasks.task.list`.
The methods raise `PortalError` of the call, and `UnknownAnswer` for a reply of another shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from b24offline.errors import UnknownAnswer
from b24offline.events import changed_at

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from b24offline.events import JSON
    from b24offline.rest.portal_client import PortalClient

LIST_PAGE: Final = 50
"""Rows of one reply."""
MOST_PAGES: Final = 100
"""Pages of a list of types after which it is taken for one without end."""


@dataclass(frozen=True, slots=True)
class ListMethod:
    """How objects of one entity are listed.

    Attributes:
        method: the REST method.
        id_name: the id, in filters, order and selection.
        stamp_name: the date of the last change, the same way.
        rows_in: key of the rows in the result; "" is the result itself.
        id_in: the id in a row.
        types: whether objects have an entity type (smart processes), which is the first part of their id.
        among: the filter's prefix for "any of a list"; "@" is not documented for tasks.
    """

    method: str
    id_name: str
    stamp_name: str
    rows_in: str = ""
    id_in: str = "ID"
    types: bool = False
    among: str = "@"


METHODS: Final[Mapping[str, ListMethod]] = {
    **{
        entity: ListMethod(f"{entity.replace('_', '.')}.list", "ID", "DATE_MODIFY")
        for entity in ("crm_lead", "crm_deal", "crm_contact", "crm_company")
    },
    "crm_item": ListMethod("crm.item.list", "id", "updatedTime", "items", "id", types=True),
    "task": ListMethod("tasks.task.list", "ID", "CHANGED_DATE", "tasks", "id", among=""),
}
"""Entity -> how it is listed; other entities cannot be compared."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One object as listed: its id within the entity, and when it changed last; None when that cannot be read."""

    object_id: str
    changed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Page:
    """Objects in the order of their ids. ``after``: where the next page begins, 0 when this is the last."""

    rows: tuple[Listed, ...]
    after: int


class ObjectLister:
    """Lists objects of one portal."""

    def __init__(self, client: PortalClient, portal: str) -> None:
        self._client = client
        self._portal = portal

    def changed(self, entity: str, type_id: str, since_ms: int, after: int) -> Page:
        """Return a page of the objects that changed at or after ``since_ms`` (epoch), with ids above ``after``."""
        how = METHODS[entity]
        since = datetime.fromtimestamp(since_ms // 1000, UTC).isoformat()
        rules = {f">={how.stamp_name}": since, f">{how.id_name}": after}
        rows = self._rows(how, type_id, rules, [how.id_name, how.stamp_name])
        numbers = [self._number(how, row) for row in rows]
        if numbers != sorted(set(numbers)) or (numbers and numbers[0] <= after):
            raise self._unknown(how.method, "its rows are not in the order of their ids")
        listed = [
            Listed(_full_id(type_id, number), _moment(changed_at(entity, row)))
            for number, row in zip(numbers, rows, strict=True)
        ]
        return Page(tuple(listed), numbers[-1] if len(rows) >= LIST_PAGE else 0)

    def present(self, entity: str, type_id: str, object_ids: Sequence[str]) -> set[str]:
        """Return which of at most 50 objects the portal lists."""
        how = METHODS[entity]
        numbers = [int(object_id.rpartition(":")[2]) for object_id in object_ids]
        rows = self._rows(how, type_id, {f"{how.among}{how.id_name}": numbers}, [how.id_name])
        found = {self._number(how, row) for row in rows}
        if not found <= set(numbers):
            # A page of other objects would make all requested ones look deleted.
            raise self._unknown(how.method, "it lists objects that were not asked for")
        return {_full_id(type_id, number) for number in found}

    def type_ids(self) -> tuple[str, ...]:
        """Return the entity types of all smart processes."""
        method, last, found = "crm.type.list", 0, dict[str, None]()
        for _ in range(MOST_PAGES):
            params = {"order": {"id": "ASC"}, "filter": {">id": last}}
            result = self._client.call(method, params)
            rows: Any = result.get("types") if isinstance(result, dict) else None
            if not isinstance(rows, list):
                raise self._unknown(method, "it has no list of types")
            try:
                numbers = [int(row["id"]) for row in rows]
                found |= {str(int(row["entityTypeId"])): None for row in rows}
            except (TypeError, KeyError, ValueError, OverflowError):
                raise self._unknown(method, "a type has no id") from None
            if len(rows) < LIST_PAGE:
                return tuple(found)
            if max(numbers) <= last:
                raise self._unknown(method, "its pages do not advance by id")
            last = max(numbers)
        raise self._unknown(method, f"its pages do not end, {MOST_PAGES} were read")

    def _rows(self, how: ListMethod, type_id: str, rules: Mapping[str, Any], select: list[str]) -> list[Any]:
        params: dict[str, object] = {
            "filter": dict(rules),
            "order": {how.id_name: "ASC"},
            "select": select,
            "start": -1,
        }
        if how.types:
            params["entityTypeId"] = int(type_id)
        result: JSON = self._client.call(how.method, params)
        rows = result.get(how.rows_in) if how.rows_in and isinstance(result, dict) else result
        if rows is None and result == []:
            rows = []
        if not isinstance(rows, list):
            raise self._unknown(how.method, "it has no list of objects")
        return rows

    def _number(self, how: ListMethod, row: Any) -> int:
        try:
            return int(row[how.id_in])
        except (TypeError, KeyError, ValueError, OverflowError):
            raise self._unknown(how.method, "an object has no id") from None

    def _unknown(self, method: str, what: str) -> UnknownAnswer:
        return UnknownAnswer(self._portal, method, 200, "", f"the answer cannot be used: {what}")


def _full_id(type_id: str, number: int) -> str:
    return f"{type_id}:{number}" if type_id else str(number)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
