"""Methods that read and write objects, one set for each of the three families of CRM and task methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from b24offline.emulator.api import listing
from b24offline.emulator.api.call import Call, Result, page_of
from b24offline.emulator.api.errors import ApiError
from b24offline.emulator.state import ITEM_TYPES, TEMPLATES, camel

if TYPE_CHECKING:
    from b24offline.emulator.state import StoredObject

Method = Callable[[Call], Result]
_MULTI_FIELDS: Final = ("PHONE", "EMAIL", "WEB", "IM", "LINK")
"""A list shows them when they are named; no mask selects them."""


def classic_methods(entity: str) -> dict[str, Method]:
    """Return `add`, `get`, `list`, `update`, `delete`, `fields` of leads, deals, contacts or companies."""
    return {
        "add": partial(_classic_add, entity),
        "get": partial(_classic_get, entity),
        "list": partial(_classic_list, entity),
        "update": partial(_classic_update, entity),
        "delete": partial(_classic_delete, entity),
        "fields": partial(_classic_fields, entity),
    }


def _classic_found(entity: str, call: Call) -> StoredObject:
    object_id = call.params.text("id")
    if not (object_id.isascii() and object_id.isdigit() and int(object_id) > 0):
        raise ApiError(400, "", "ID is not defined or invalid")
    found = call.portal.objects.get(entity, str(int(object_id)))
    if found is None:
        raise ApiError(400, "", "Not found")
    return found


def _classic_add(entity: str, call: Call) -> Result:
    made = call.portal.add(entity, call.params.mapping("fields"), connector=call.connector)
    return Result(int(made.id))


def _classic_get(entity: str, call: Call) -> Result:
    return Result(_classic_found(entity, call).data)


def _classic_update(entity: str, call: Call) -> Result:
    connector = call.connector
    call.portal.update(_classic_found(entity, call), call.params.mapping("fields"), connector=connector)
    return Result(True)


def _classic_delete(entity: str, call: Call) -> Result:
    connector = call.connector
    call.portal.delete(_classic_found(entity, call), connector=connector)
    return Result(True)


def _classic_list(entity: str, call: Call) -> Result:
    rows = (found.data for found in _candidates(entity, call))
    page, total, following = _listed(call, rows, str.upper)
    select = [str(name).upper() for name in call.params.mapping("select").values()]
    return Result([_classic_row(row, select) for row in page], total, following)


def _candidates(entity: str, call: Call) -> Iterable[StoredObject]:
    """Return the objects that a filter by ids can mean; all of them without one."""
    ids = call.params.mapping("filter").get("@ID")
    if not isinstance(ids, dict | list):
        return call.portal.objects.alive(entity)
    wanted = sorted({int(str(one)) for one in (ids.values() if isinstance(ids, dict) else ids) if str(one).isdigit()})
    return filter(None, (call.portal.objects.get(entity, str(number)) for number in wanted))


def _classic_row(row: Mapping[str, Any], select: list[str]) -> dict[str, Any]:
    """Return the fields of a row that were asked for: `*` is all but user fields, `UF_*` is those."""
    masked = [name for name in select if name != "UF_*"] or ["ID"] * bool(select)
    fields = listing.shown(row, masked, str.upper, "ID")
    if select:
        fields = {name: value for name, value in fields.items() if not name.startswith("UF_") or name in select}
    if "UF_*" in select:
        fields |= {name: value for name, value in row.items() if name.startswith("UF_")}
    return {name: value for name, value in fields.items() if name not in _MULTI_FIELDS or name in select}


def _classic_fields(entity: str, _call: Call) -> Result:
    names = ["ID", *TEMPLATES[entity], "DATE_CREATE", "DATE_MODIFY"]
    return Result({name: {"type": "string", "isReadOnly": name == "ID", "title": name} for name in names})


def _listed(call: Call, rows: Any, name_of: Callable[[str], str]) -> tuple[list[Any], int, int | None]:
    found = listing.matching(rows, call.params.mapping("filter"), name_of)
    found = listing.ordered(found, call.params.mapping("order"), name_of)
    return page_of(found, call.params.number("start"))


def _item_type(call: Call) -> int:
    item_type = call.params.number("entityTypeId")
    if item_type not in ITEM_TYPES:
        raise ApiError(400, "ENTITY_TYPE_NOT_SUPPORTED", "Entity type is not supported")
    return item_type


def _item_found(call: Call) -> StoredObject:
    found = call.portal.objects.get("crm_item", f"{_item_type(call)}:{call.params.number('id')}")
    if found is None:
        raise ApiError(400, "NOT_FOUND", "Item is not found")
    return found


def _item_add(call: Call) -> Result:
    made = call.portal.add(
        "crm_item", call.params.mapping("fields"), item_type=_item_type(call), connector=call.connector
    )
    return Result({"item": made.data})


def _item_get(call: Call) -> Result:
    return Result({"item": _item_found(call).data})


def _item_update(call: Call) -> Result:
    connector, found = call.connector, _item_found(call)
    call.portal.update(found, call.params.mapping("fields"), connector=connector)
    return Result({"item": found.data})


def _item_delete(call: Call) -> Result:
    connector = call.connector
    call.portal.delete(_item_found(call), connector=connector)
    return Result([])


def _item_list(call: Call) -> Result:
    rows = (found.data for found in call.portal.objects.alive("crm_item", _item_type(call)))
    page, total, following = _listed(call, rows, camel)
    select = list(call.params.mapping("select").values())
    return Result({"items": [listing.shown(row, select, camel, "id") for row in page]}, total, following)


def _types(_call: Call) -> Result:
    types = [
        {"id": number, "title": title, "entityTypeId": item_type, "isCategoriesEnabled": "Y"}
        for number, (item_type, (title, _, _)) in enumerate(ITEM_TYPES.items(), start=5)
    ]
    return Result({"types": types}, len(types))


ITEM_METHODS: Final[dict[str, Method]] = {
    "crm.item.add": _item_add,
    "crm.item.get": _item_get,
    "crm.item.update": _item_update,
    "crm.item.delete": _item_delete,
    "crm.item.list": _item_list,
    "crm.type.list": _types,
}


def _task_found(call: Call) -> StoredObject | None:
    return call.portal.objects.get("task", call.params.text("taskId"))


def _task_or_refuse(call: Call) -> StoredObject:
    found = _task_found(call)
    if found is None:
        raise ApiError(400, "100", "Task not found or not accessible")
    return found


def _task_add(call: Call) -> Result:
    made = call.portal.add("task", call.params.mapping("fields"), connector=call.connector)
    return Result({"task": made.data})


def _task_get(call: Call) -> Result:
    found = _task_found(call)
    return Result([] if found is None else {"task": found.data})


def _task_update(call: Call) -> Result:
    connector, found = call.connector, _task_or_refuse(call)
    call.portal.update(found, call.params.mapping("fields"), connector=connector)
    return Result({"task": found.data})


def _task_delete(call: Call) -> Result:
    connector = call.connector
    call.portal.delete(_task_or_refuse(call), connector=connector)
    return Result({"task": True})


def _task_list(call: Call) -> Result:
    rows = (found.data for found in call.portal.objects.alive("task"))
    page, total, following = _listed(call, rows, camel)
    select = list(call.params.mapping("select").values())
    return Result({"tasks": [listing.shown(row, select, camel, "id") for row in page]}, total, following)


TASK_METHODS: Final[dict[str, Method]] = {
    "tasks.task.add": _task_add,
    "tasks.task.get": _task_get,
    "tasks.task.update": _task_update,
    "tasks.task.delete": _task_delete,
    "tasks.task.list": _task_list,
}
