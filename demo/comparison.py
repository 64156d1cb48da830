"""Compares the mirror with the portal: what is missing, stale or extra. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from b24offline.store import MirrorRow

Name = tuple[str, str]
"""Entity and object id."""


@dataclass(frozen=True)
class Comparison:
    """The difference; all three empty when the mirror is the portal.

    Attributes:
        compared: objects of the portal that changed.
        missing: changed in the portal, unknown to the mirror.
        stale: known, but with another content, or living here and deleted there, or the other way round.
        extra: living in the mirror, but not among the portal's changed objects.
    """

    compared: int
    missing: list[Name] = field(default_factory=list)
    stale: list[Name] = field(default_factory=list)
    extra: list[Name] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether there is no difference."""
        return not (self.missing or self.stale or self.extra)


def compare(portal: Iterable[Mapping[str, Any]], mirror: Iterable[MirrorRow]) -> Comparison:
    """``portal``: changed objects as the emulator's control API lists them; ``mirror``: all rows of that portal."""
    there = {(str(one["entity"]), str(one["id"])): one for one in portal}
    runtime = {(row.entity, row.object_id): row for row in mirror}
    missing = [name for name in there if name not in runtime]
    stale = [name for name, one in there.items() if name in runtime and not _same(one, runtime[name])]
    extra = [name for name, row in runtime.items() if name not in there and row.deleted_at is None]
    return Comparison(len(there), sorted(missing), sorted(stale), sorted(extra))


def _same(one: Mapping[str, Any], row: MirrorRow) -> bool:
    if one["deleted"]:
        return row.deleted_at is not None
    return row.deleted_at is None and row.data == one["data"]
