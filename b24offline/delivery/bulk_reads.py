"""How many objects are read by few requests: what a list can answer by lists of fifty, all else by `get`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from b24offline.events import object_in
from b24offline.rest import LIST_PAGE, Command, list_command, list_of, listed_objects

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from b24offline.events import JSON, ObjectKey, ObjectRead

COMMANDS: Final = 50
"""Reads that fit into one request."""


@dataclass(frozen=True, slots=True)
class Get:
    """The read of one object by its own method."""

    key: ObjectKey
    read: ObjectRead

    @property
    def keys(self) -> tuple[ObjectKey, ...]:
        """The object, as of a list."""
        return (self.key,)

    @property
    def command(self) -> Command:
        """The call."""
        return Command(self.read.method, self.read.params)

    def found(self, result: JSON) -> dict[ObjectKey, JSON]:
        """Return the object, None where it is gone. Raise ValueError for another answer."""
        return {self.key: object_in(result, self.read)}


@dataclass(frozen=True, slots=True)
class Listing:
    """The read of several objects of one entity and type by one list. ``numbers``: number -> object."""

    entity: str
    type_id: str
    numbers: Mapping[int, ObjectKey]

    @property
    def keys(self) -> tuple[ObjectKey, ...]:
        """The objects."""
        return tuple(self.numbers.values())

    @property
    def command(self) -> Command:
        """The call."""
        return list_command(self.entity, self.type_id, list(self.numbers))

    def found(self, result: JSON) -> dict[ObjectKey, JSON]:
        """Return the objects that are listed. Raise ValueError for another answer."""
        listed = listed_objects(self.entity, result, self.numbers)
        return {self.numbers[number]: row for number, row in listed.items()}


def requests_for(
    reads: Mapping[ObjectKey, ObjectRead], by_get: Collection[str] | None = None
) -> list[tuple[Get | Listing, ...]]:
    """Return the reads of all objects, those of one request together.

    Args:
        reads: object -> the call that reads it alone.
        by_get: entities that are never listed; None: none is.
    """
    commands = [*_listings(reads, by_get)] if by_get is not None else []
    listed = {key for listing in commands for key in listing.keys}
    single = [Get(key, read) for key, read in reads.items() if key not in listed]
    every: Sequence[Get | Listing] = [*commands, *single]
    return [tuple(every[start : start + COMMANDS]) for start in range(0, len(every), COMMANDS)]


def _listings(reads: Mapping[ObjectKey, ObjectRead], by_get: Collection[str]) -> list[Listing]:
    """Return a list for each fifty objects of an entity and type; one that stands alone is read by `get`."""
    groups: dict[tuple[str, str], dict[int, ObjectKey]] = {}
    for key in reads:
        place = None if key.entity in by_get else list_of(key.entity, key.object_id)
        if place is not None:
            type_id, number = place
            groups.setdefault((key.entity, type_id), {})[number] = key
    found = []
    for (entity, type_id), numbers in groups.items():
        ordered = sorted(numbers.items())
        pages = [dict(ordered[start : start + LIST_PAGE]) for start in range(0, len(ordered), LIST_PAGE)]
        found += [Listing(entity, type_id, page) for page in pages if len(page) > 1]
    return found
