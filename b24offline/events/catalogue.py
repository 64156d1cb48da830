"""The meaning of the portal's event names: action, entity, path of the id, how the object is read.

The data is `catalogue.csv` beside this file, one row an event. `id_path` is relative to the event's payload
(`.` is the payload itself, `[0]` the first element of a list); several paths joined by `+` make one composite
id, its parts joined by `:`. `get_params` names the parameters of the reading method in the same order, with
constants as `name=value`. `result_path` counts from the root of the portal's answer; for outdated methods, whose
answers are not documented, `result` is assumed.
"""

from __future__ import annotations

import csv
import functools
import io
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, cast

from b24offline.events.event import Action, Event, ObjectKey
from b24offline.events.record import JSON, Record, positive_int

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TYPE_SUFFIX: Final = "_{ENTITYTYPEID}"
_TYPED_NAME: Final = re.compile(r"(?P<base>.+)_(?P<type>[1-9][0-9]{0,9})")
_TYPE_PATH: Final = "FIELDS.ENTITY_TYPE_ID"
_PATH_STEP: Final = re.compile(r"([^.\[\]]+)|\[([0-9]+)\]")
_MAX_ID_CHARACTERS: Final = 128

LISTED_ENTITIES: Final = frozenset({"crm_lead", "crm_deal", "crm_contact", "crm_company", "crm_item", "task"})
"""Entities that the portal lists by the date of their last change, so that their mirror can be compared."""

_ABSENT: Final = object()
_MODIFIED_FIELDS: Final = (
    "DATE_MODIFY",
    "updatedTime",
    "changedDate",
    "LAST_UPDATED",
    "timestampX",
    "dateUpdate",
    "updatedAt",
    "DATE_UPDATE",
    "TIMESTAMP_X",
)
"""Fields with the time of the last change, the most specific first."""


@dataclass(frozen=True, slots=True)
class EventKind:
    """What one event name means.

    Attributes:
        name: upper case; a name with a type suffix (`..._147`) keeps it.
        scope: the REST scope whose methods raise it.
        action: an `Action`.
        entity: our word for the kind of object, "crm_deal".
        id_path: path of the id in the payload, "" when the event has no object.
        get_method: the REST method that reads the object, "" when there is none.
        get_params: names of its parameters.
        result_path: path of the object in its reply.
        offline: "yes" when the event can be queued as offline, else "no".
    """

    name: str
    scope: str
    action: Action
    entity: str
    id_path: str
    get_method: str
    get_params: str
    result_path: str
    offline: str


@dataclass(frozen=True, slots=True)
class ObjectRead:
    """One REST call that reads an object.

    Attributes:
        method: the REST method.
        params: its parameters.
        result_path: path of the object in the reply.
        asked: field -> value that the filter asks for; the object must have them.
    """

    method: str
    params: Mapping[str, JSON]
    result_path: str
    asked: Mapping[str, str]


class Catalogue:
    """Lookup over the event kinds; immutable once built."""

    def __init__(self, kinds: Iterable[EventKind]) -> None:
        listed = tuple(kinds)
        self._kinds: dict[str, EventKind] = {kind.name: kind for kind in listed}
        self._reads: dict[tuple[str, int], EventKind] = {}
        for kind in listed:
            if kind.get_method:
                self._reads.setdefault((kind.entity, len(kind.id_path.split("+"))), kind)

    @property
    def kinds(self) -> tuple[EventKind, ...]:
        """Every kind, in the order of the data; typed names appear once, with a placeholder."""
        return tuple(self._kinds.values())

    @property
    def entities(self) -> frozenset[str]:
        """Every entity that an event can point to."""
        return frozenset(kind.entity for kind in self._kinds.values() if kind.id_path)

    def lookup(self, name: str) -> EventKind | None:
        """Return the kind of an event name in any case, `ONCRMDYNAMICITEMADD_147` included; None when unknown."""
        wanted = name.strip().upper()
        kind = self._kinds.get(wanted)
        if kind is not None:
            return None if wanted.endswith(_TYPE_SUFFIX) else kind
        typed = _TYPED_NAME.fullmatch(wanted)
        template = self._kinds.get(typed["base"] + _TYPE_SUFFIX) if typed else None
        return replace(template, name=wanted) if template else None

    def getter(self, object_key: ObjectKey) -> ObjectRead | None:
        """Return the call that reads this object, None when there is no such method or the id has another shape."""
        parts = object_key.object_id.split(":")
        kind = self._reads.get((object_key.entity, len(parts)))
        if kind is None and len(parts) > 1:
            kind, parts = self._reads.get((object_key.entity, 1)), [object_key.object_id]
        if kind is None:
            return None
        params: dict[str, JSON] = {}
        asked: dict[str, str] = {}
        values = iter(parts)
        for name in kind.get_params.split("+"):
            key, constant, value = name.partition("=")
            _put(params, asked, key, value if constant else next(values))
        return ObjectRead(kind.get_method, params, kind.result_path, asked)


@functools.cache
def shipped_catalogue() -> Catalogue:
    """Return the catalogue that comes with the package, read once per process."""
    text = resources.files(__package__).joinpath("catalogue.csv").read_text("utf-8")
    return Catalogue(EventKind(**cast("dict[str, Any]", row)) for row in csv.DictReader(io.StringIO(text)))


def object_id_from(data: JSON, kind: EventKind) -> str | None:
    """Return the id of the object that a payload points to, composite ids joined by `:`.

    Return None when the kind has no object, or the id is missing, zero, too long or not plain text: such an event
    can run, it just belongs to no object.
    """
    if not kind.id_path:
        return None
    parts: list[str] = []
    for path in kind.id_path.split("+"):
        part = _id_text(_at(data, path))
        if part is None and path == _TYPE_PATH:
            typed = _TYPED_NAME.fullmatch(kind.name)
            part = typed["type"] if typed else None
        if part is None or (":" in part and "+" in kind.id_path):
            return None
        parts.append(part)
    return ":".join(parts)


def event_from_record(portal: str, record: Record, catalogue: Catalogue) -> Event:
    """Return the event of a record; an unknown name or a malformed id gives an event without object, not an error."""
    kind = catalogue.lookup(record.name)
    key: ObjectKey | None = None
    if kind is not None:
        object_id = object_id_from(record.data, kind)
        key = None if object_id is None else ObjectKey(portal, kind.entity, object_id)
    return Event(
        portal=portal,
        record_id=record.record_id,
        stamp=record.stamp,
        message_id=record.message_id,
        name=record.name,
        action="other" if kind is None else kind.action,
        object=key,
        data=record.data,
        user_id=_user_id(record.additional),
        nacked=record.nacked,
    )


def object_in(result: JSON, read: ObjectRead) -> JSON:
    """Return the object in the `result` of a reply, None when it is absent (`[]`, null, false, also at its path).

    Raise ValueError for anything else: a map without the object's key, or an object that was not asked for, as from a
    list that ignores its filter. That must not be taken for an object that is gone.
    """
    if _is_nothing(result):
        return None
    found = _at(result, read.result_path.removeprefix("result").removeprefix(".") or ".", _ABSENT)
    if found is _ABSENT:
        raise ValueError(f"nothing is at its {read.result_path}")
    if isinstance(found, dict):
        other = [name for name, value in read.asked.items() if name in found and str(found[name]) != value]
        if other:
            raise ValueError(f"the {other[0]} of the object is not the one asked for")
    return None if _is_nothing(found) else found


def _is_nothing(value: JSON) -> bool:
    return value is None or value is False or value in ([], {})


def changed_at(entity: str, data: JSON) -> str | None:
    """Return when the object was last modified according to its own fields, ISO 8601 with offset.

    Return None when no field tells, or only without an offset or in the portal's display format (as calendar entries
    do).
    """
    if not isinstance(data, dict) or not entity:
        return None
    for name in _MODIFIED_FIELDS:
        value = data.get(name)
        if isinstance(value, str) and _is_moment(value):
            return value
    return None


def _is_moment(text: str) -> bool:
    try:
        moment = datetime.fromisoformat(text)
        moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return False
    return moment.tzinfo is not None


def _at(data: JSON, path: str, absent: Any = None) -> Any:
    found = data
    for key, index in [] if path == "." else _PATH_STEP.findall(path):
        if key and isinstance(found, dict):
            found = found.get(key, absent)
        elif index and isinstance(found, list) and int(index) < len(found):
            found = found[int(index)]
        else:
            return absent
    return found


def _id_text(value: JSON) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    text = str(value).strip()
    plain = text.isprintable() and text.isascii() and len(text) <= _MAX_ID_CHARACTERS
    return text if plain and text.strip("0") and not text.startswith("-") else None


def _put(params: dict[str, JSON], asked: dict[str, str], name: str, value: str) -> None:
    outer, bracket, inner = name.partition("[")
    if not bracket:
        params[outer] = value
        return
    field = inner.removesuffix("]")
    asked[field] = value
    nested = params.setdefault(outer, {})
    if isinstance(nested, dict):
        nested[field] = value


def _user_id(additional: JSON) -> int | None:
    return positive_int(additional.get("user_id")) if isinstance(additional, dict) else None
