"""The methods `event.offline.*`: parameters in, queue transitions, rows out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from b24offline.emulator.api.call import Call, Result, page_of
from b24offline.emulator.api.errors import ApiError, argument_error
from b24offline.emulator.api.filters import parse_filter, parse_order
from b24offline.emulator.api.params import items_of
from b24offline.emulator.state import Selection, iso

if TYPE_CHECKING:
    from b24offline.emulator.state import Record


def get(call: Call) -> Result:
    """Reserve, take or read a batch again.

    Only an explicit 0 (number, text or false) keeps `clear` from deleting.
    """
    connector, queue = _enter(call), call.portal.queue
    clear = call.params.get("clear") not in (0, "0", False) or call.params.get("clear") is None
    if not clear and not call.portal.licence.rest_offline_extended:
        raise ApiError(403, "WRONG_LICENSE", "The plan does not include reserving offline events")
    limit = call.params.number("limit", 50)
    if limit < 1:
        raise argument_error("limit must be greater than 0")
    limit += call.portal.quirks.rows_over_limit
    selection = Selection(
        parse_filter(call.params.get("filter"), for_list=False, strict=call.portal.quirks.unknown_filter_is_error),
        parse_order(call.params.get("order"), for_list=False, default="TIMESTAMP_X"),
        limit,
    )
    error = call.params.text("error")
    process_id = call.params.text("process_id")
    answered: str | None = process_id
    if process_id:
        records = queue.reread(connector, process_id, selection, nacked=None if error == "" else error == "1")
        if clear:
            rows = [_row(record) for record in records]
            queue.clear_batch(call.now, connector, process_id, by="get")
            return Result({"process_id": None, "events": rows})
    elif clear:
        records = queue.take(call.now, connector, selection, nacked=error == "1")
        answered = None
    else:
        answered, records = queue.reserve(
            call.now, connector, selection, nacked=error == "1", overlap_seconds=call.overlap_seconds
        )
        if not records and not call.portal.quirks.empty_reservation_has_process_id:
            answered = None
    return Result({"process_id": answered, "events": [_row(record) for record in records]})


def list_(call: Call) -> Result:
    """Read a page without reserving."""
    connector = _enter(call)
    selection = Selection(
        parse_filter(call.params.get("filter"), for_list=True, strict=call.portal.quirks.unknown_filter_is_error),
        parse_order(call.params.get("order"), for_list=True, default="ID"),
    )
    found = call.portal.queue.select(connector, selection)
    page, total, following = page_of(found, call.params.number("start"))
    rows = [
        {**_row(record), "PROCESS_ID": record.process_id, "ERROR": "1" if record.nacked else "0"} for record in page
    ]
    return Result(rows, total, following)


def clear(call: Call) -> Result:
    """Delete records of a batch. Without ids, or with an empty list of them, that is the whole batch."""
    connector, queue = _enter(call), call.portal.queue
    process_id = _process_id(call)
    ids = _record_ids(call)
    messages = _message_ids(call)
    if messages:
        queue.clear_messages(call.now, connector, process_id, frozenset(messages))
    elif ids and messages is None:
        queue.clear_ids(call.now, connector, process_id, frozenset(ids))
    elif not process_id and call.portal.quirks.clear_free_in_all_connectors:
        queue.clear_free_everywhere(call.now)
    else:
        queue.clear_batch(call.now, connector, process_id)
    return Result(True)


def error(call: Call) -> Result:
    """Mark and release records of a batch, and delete what else is unmarked with their message ids."""
    connector = _enter(call)
    process_id = _process_id(call)
    messages = _message_ids(call)
    if messages is None:
        raise argument_error("message_id is missing")
    call.portal.queue.report(call.now, connector, process_id, messages)
    return Result(True)


def _enter(call: Call) -> str:
    call.need_application()
    call.need_admin()
    return call.connector


def _process_id(call: Call) -> str:
    if "process_id" not in call.params:
        raise argument_error("process_id is missing")
    return call.params.text("process_id")


def _array(call: Call, name: str) -> list[Any] | None:
    value = call.params.get(name)
    if value is None:
        return None
    found = items_of(value)
    if found is None:
        raise argument_error(f"{name} must be an array")
    return found


def _record_ids(call: Call) -> list[int] | None:
    found = _array(call, "id")
    if found is None:
        return None
    ids = []
    for item in found:
        text = str(item) if not isinstance(item, bool) else ""
        if not (text.isascii() and text.isdigit() and int(text) > 0):
            raise argument_error("id must hold whole numbers greater than 0")
        ids.append(int(text))
    return ids


def _message_ids(call: Call) -> list[str] | None:
    found = _array(call, "message_id")
    if found is not None and not all(isinstance(message_id, str) and len(message_id) == 32 for message_id in found):
        raise argument_error("message_id must hold texts of 32 characters")
    return found


def _row(record: Record) -> dict[str, Any]:
    return {
        "ID": str(record.id),
        "TIMESTAMP_X": iso(record.stamp),
        "EVENT_NAME": record.event_name,
        "EVENT_DATA": record.data,
        "EVENT_ADDITIONAL": record.additional,
        "MESSAGE_ID": record.message_id,
    }
