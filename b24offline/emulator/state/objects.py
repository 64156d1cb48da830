"""The objects of one portal: leads, deals, contacts, companies, items of smart processes and tasks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from b24offline.emulator.state.spelling import spelled
from b24offline.emulator.state.templates import ENTITIES, ITEM_TYPES, TEMPLATES, another_version, made_up, stamps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from random import Random

_MULTI_FIELDS = ("PHONE", "EMAIL")


@dataclass(slots=True)
class StoredObject:
    """An object's own fields over its template.

    `changed` is the number of its last change, 0 for a seeded one.
    """

    entity: str
    id: str
    fields: dict[str, Any] = field(repr=False)
    revision: int = 1
    changed: int = 0
    deleted: bool = False

    @property
    def data(self) -> dict[str, Any]:
        """Return the object exactly as its get method returns it."""
        return {**self._identity(), **TEMPLATES[self.entity], **self.fields}

    @property
    def number(self) -> str:
        """Return the id as its methods know it; an item's is unique within its type only."""
        return self.id.partition(":")[2] if self.entity == "crm_item" else self.id

    @property
    def item_type(self) -> int:
        """Return the entity type id of an item of a smart process; 0 for other entities."""
        return int(self.id.partition(":")[0]) if self.entity == "crm_item" else 0

    def _identity(self) -> dict[str, Any]:
        if self.entity == "crm_item":
            return {"id": int(self.number), "entityTypeId": self.item_type}
        return {"id" if self.entity == "task" else "ID": self.id}


class Objects:
    """All objects by entity and id, deleted ones included. Ids of items are written `type:id`."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._all: dict[str, dict[str, StoredObject]] = {entity: {} for entity in ENTITIES}
        self._alive: dict[str, list[str]] = {entity: [] for entity in ENTITIES}
        self._place: dict[tuple[str, str], int] = {}
        self._last: dict[tuple[str, int], int] = {}
        self._last_multi = 9000

    def __len__(self) -> int:
        return sum(len(alive) for alive in self._alive.values())

    def counts(self) -> dict[str, int]:
        """Return how many objects exist, by entity."""
        return {entity: len(alive) for entity, alive in self._alive.items()}

    def get(self, entity: str, object_id: str) -> StoredObject | None:
        """Return an object that exists, or None."""
        found = self._all[entity].get(object_id)
        return None if found is None or found.deleted else found

    def alive(self, entity: str, item_type: int = 0) -> Iterator[StoredObject]:
        """Yield the objects of an entity that exist, by ascending id; items of one type only, if given."""
        for found in self._all[entity].values():
            if not found.deleted and (not item_type or found.item_type == item_type):
                yield found

    def everything(self, entity: str) -> Iterator[StoredObject]:
        """Yield all objects of an entity that ever existed."""
        yield from self._all[entity].values()

    def pick(self, entity: str, first: int | None = None) -> StoredObject | None:
        """Return an object at random, of the `first` ones if given; None when there is none."""
        alive = self._alive[entity]
        if not alive:
            return None
        return self._all[entity][alive[self._rng.randrange(min(len(alive), first or len(alive)))]]

    def some(self, entity: str, count: int) -> list[StoredObject]:
        """Return up to `count` different objects, at random."""
        alive = self._alive[entity]
        return [self._all[entity][object_id] for object_id in self._rng.sample(alive, min(count, len(alive)))]

    def add(self, entity: str, now: float, fields: Mapping[str, Any] | None = None, item_type: int = 0) -> StoredObject:
        """Make an object with the given fields, or with made-up ones."""
        if entity == "crm_item" and not item_type:
            item_type = self._rng.choice(list(ITEM_TYPES))
        number = self._last[entity, item_type] = self._last.get((entity, item_type), 0) + 1
        object_id = f"{item_type}:{number}" if item_type else str(number)
        contents = made_up(entity, number, self._rng, item_type) if fields is None else fields
        made = StoredObject(entity, object_id, stamps(entity, now, new=True))
        if entity == "task":
            made.fields["guid"] = f"{{00000000-0000-4000-8000-{number:012d}}}"
            made.fields["chatId"] = str(80_000 + number)
        elif entity == "crm_item":
            _, category, _ = ITEM_TYPES[item_type]
            made.fields |= {"categoryId": category, "stageId": f"DT{item_type}_{category}:NEW"}
        self._write(made, contents)
        self._all[entity][object_id] = made
        self._place[entity, object_id] = len(self._alive[entity])
        self._alive[entity].append(object_id)
        return made

    def put(self, entity: str, object_id: str, fields: Mapping[str, Any], now: float) -> StoredObject:
        """Make an object of this id with these fields over its template."""
        made = StoredObject(entity, object_id, {**stamps(entity, now, new=True), **spelled(entity, fields)})
        self._all[entity][object_id] = made
        self._place[entity, object_id] = len(self._alive[entity])
        self._alive[entity].append(object_id)
        self._last[entity, made.item_type] = max(self._last.get((entity, made.item_type), 0), int(made.number))
        return made

    def update(self, found: StoredObject, now: float, fields: Mapping[str, Any] | None = None) -> None:
        """Change an object: the given fields, or made-up ones."""
        found.revision += 1
        contents = another_version(found.entity, found.revision, self._rng) if fields is None else fields
        found.fields |= stamps(found.entity, now, new=False)
        self._write(found, contents)

    def delete(self, found: StoredObject) -> None:
        """Delete an object; its last contents remain readable."""
        found.deleted = True
        alive = self._alive[found.entity]
        place = self._place.pop((found.entity, found.id))
        moved = alive.pop()
        if moved != found.id:
            alive[place] = moved
            self._place[found.entity, moved] = place

    def _write(self, found: StoredObject, contents: Mapping[str, Any]) -> None:
        template = TEMPLATES[found.entity]
        for name, value in spelled(found.entity, contents).items():
            if name in _MULTI_FIELDS and found.entity not in ("crm_item", "task"):
                self._write_multi(found, name, value)
            elif found.entity == "crm_item" and isinstance(template.get(name), int):
                found.fields[name] = _as_number(value)
            else:
                found.fields[name] = value

    def _write_multi(self, found: StoredObject, name: str, value: Any) -> None:
        rows = [row for row in value if isinstance(row, dict) and row.get("VALUE")] if isinstance(value, list) else []
        found.fields.pop(name, None)
        found.fields[f"HAS_{name}"] = "Y" if rows else "N"
        written = []
        for row in rows:
            self._last_multi += 1
            kind = str(row.get("VALUE_TYPE", "WORK"))
            entry = {
                "ID": str(self._last_multi),
                "VALUE_TYPE": kind,
                "VALUE": str(row["VALUE"]),
                "TYPE_ID": name,
            }
            written.append(entry)
        if written:
            found.fields[name] = written


def _as_number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    return int(number) if number.is_integer() else number
