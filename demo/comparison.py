"""The difference between the mirror and the portal: what is missing, stale or extra. Pure."""

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
        stale: known, but with another content, or deleted on one side only.
        extra: not deleted in the mirror, and not among the portal's changed objects.
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
    """Compare the changed objects, as the emulator's control API lists them, with all rows of that portal."""
    objects = {(str(changed["entity"]), str(changed["id"])): changed for changed in portal}
    rows = {(row.entity, row.object_id): row for row in mirror}
    missing = [name for name in objects if name not in rows]
    stale = [name for name, changed in objects.items() if name in rows and not _same(changed, rows[name])]
    extra = [name for name, row in rows.items() if name not in objects and row.deleted_at is None]
    return Comparison(len(objects), sorted(missing), sorted(stale), sorted(extra))


def _same(changed: Mapping[str, Any], row: MirrorRow) -> bool:
    if changed["deleted"]:
        return row.deleted_at is not None
    return row.deleted_at is None and row.data == changed["data"]
