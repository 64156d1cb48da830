"""Reads up to 50 objects by one call of their list method, where a list answers all that `get` does. Pure.

Source: the vendor's pages on `crm.{lead,deal,contact,company}.list` and `crm.item.list`. What a list leaves out is not
told apart from what is gone: read that by `get`. Tasks are read by `get` only: a list of them leaves fields out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from b24offline.rest.client import Command
from b24offline.rest.listing import LIST_PAGE, METHODS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from b24offline.events import JSON

_MULTIPLE: Final = ("PHONE", "EMAIL", "WEB", "IM")
"""Fields with several values; `*` does not select them."""
SELECTED: Final[Mapping[str, Sequence[str]]] = {
    "crm_lead": ("*", "UF_*", *_MULTIPLE),
    "crm_deal": ("*", "UF_*"),
    "crm_contact": ("*", "UF_*", *_MULTIPLE, "LINK"),
    "crm_company": ("*", "UF_*", *_MULTIPLE),
    "crm_item": ("*",),
}
"""Entity -> what its list is asked for, so that it answers every field that `get` does."""


def list_of(entity: str, object_id: str) -> tuple[str, int] | None:
    """Return the entity type and the number of an object that a list can answer, None for one that it cannot.

    The type is "" but for items of smart processes.
    """
    if entity not in SELECTED:
        return None
    type_id, typed, number = object_id.rpartition(":")
    if bool(typed) != METHODS[entity].types or not (number.isdecimal() and number.isascii()):
        return None
    if typed and not (type_id.isdecimal() and type_id.isascii()):
        return None
    return (type_id, int(number)) if str(int(number)) == number else None


def list_command(entity: str, type_id: str, numbers: Sequence[int]) -> Command:
    """Return the call that reads at most 50 objects of an entity, and of a type. Raise ValueError for more, or none."""
    if not 1 <= len(numbers) <= LIST_PAGE:
        raise ValueError(f"a list answers 1 to {LIST_PAGE} objects, not {len(numbers)}")
    how = METHODS[entity]
    params: dict[str, object] = {"entityTypeId": int(type_id)} if how.types else {}
    params |= {
        "filter": {f"{how.among}{how.id_name}": list(numbers)},
        "select": list(SELECTED[entity]),
        "order": {how.id_name: "ASC"},
        "start": -1,
    }
    return Command(how.method, params)


def listed_objects(entity: str, result: JSON, numbers: Collection[int]) -> dict[int, JSON]:
    """Return number -> object of a reply; what the list left out is not there.

    Raise ValueError for a reply of another shape, and for one with objects that were not asked for: a list that ignores
    its filter answers the first fifty of all.
    """
    how = METHODS[entity]
    rows = result.get(how.rows_in) if how.rows_in and isinstance(result, dict) else result
    if not isinstance(rows, list):
        raise ValueError(f"{how.method} has no list of objects")  # noqa: TRY004 - as for the other shapes
    found: dict[int, JSON] = {}
    for row in rows:
        try:
            found[int(row[how.id_in])] = row  # type: ignore[index,call-overload,arg-type]
        except (TypeError, KeyError, ValueError):
            raise ValueError(f"{how.method}: an object has no id") from None
    if not found.keys() <= set(numbers):
        raise ValueError(f"{how.method} lists objects that were not asked for")
    return found
