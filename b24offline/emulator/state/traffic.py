"""Changes of a portal's objects by other people: what a stream of them consists of."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from b24offline.emulator.state.portal import ADD, UPDATE
from b24offline.emulator.state.templates import ENTITIES

if TYPE_CHECKING:
    from b24offline.emulator.state.portal import Portal


@dataclass(frozen=True, slots=True)
class TrafficPlan:
    """`rate` changes a real second, for `seconds` (null: until stopped), weighted by action.

    `entities` limits what is changed, `hot` limits it to that many objects of each entity, so that they
    change often.
    """

    rate: float = 10.0
    seconds: float | None = None
    add: float = 1.0
    update: float = 8.0
    delete: float = 1.0
    seed: int = 1
    entities: tuple[str, ...] = ENTITIES
    hot: int | None = None


def parse_traffic(raw: dict[str, Any]) -> TrafficPlan:
    """Read a plan from JSON; raise ValueError that says what is wrong with it."""
    known = {known_field.name for known_field in fields(TrafficPlan)}
    unknown = set(raw) - known
    if unknown:
        raise ValueError(f"unknown keys of a traffic plan: {sorted(unknown)}; known are {sorted(known)}")
    plan = TrafficPlan(**{**raw, "entities": tuple(raw.get("entities") or ENTITIES)})
    if plan.rate <= 0 or min(plan.add, plan.update, plan.delete) < 0 or plan.add + plan.update + plan.delete <= 0:
        raise ValueError("traffic needs a rate greater than 0 and weights of which one is greater than 0")
    if not set(plan.entities) <= set(ENTITIES):
        raise ValueError(f"unknown entities in {list(plan.entities)}; known are {list(ENTITIES)}")
    return plan


def change_one(portal: Portal, entity: str, action: str, hot: int | None = None) -> str:
    """Make one change at random and return the object's id; add an object where none is left."""
    found = None if action == ADD else portal.objects.pick(entity, hot)
    if found is None:
        return portal.add(entity).id
    if action == UPDATE:
        portal.update(found)
    else:
        portal.delete(found)
    return found.id
