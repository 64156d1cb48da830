"""Lanes: several ways of reserving from one portal's queue, which take turns. Pure.

A lane has its own filter, batch size, interval and Celery queue, so that a flood of one event does not delay the
others. Only one reserving call is in flight per portal, so lanes take turns: the one that has waited longest goes
first, and a priority is worth a second of waiting, so a lane that is always full cannot starve the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from b24offline.config import validators as values
from b24offline.contract import QUEUE_EVENTS

DEFAULT_LANE: Final = "default"
LARGEST_BATCH: Final = 500
"""Records that one reserving call brings, at most."""
BatchSize = Annotated[int, Field(ge=1, le=LARGEST_BATCH)]
PRIORITY_WORTH_MS: Final = 1000
"""Milliseconds of waiting that one step of priority is worth."""

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class Lane(BaseModel):
    """One lane. Frozen; unknown keys are refused.

    Attributes:
        name: up to 32 of a-z 0-9 _ -; "default" is the lane of the `B24_*` settings.
        filter: as `B24_FILTER`; filters of lanes may overlap.
        order: as `B24_ORDER`.
        batch_size: as `B24_BATCH_SIZE`.
        batch_size_max: as `B24_BATCH_SIZE_MAX`; without one 500, or the batch size where that is given.
        interval_min_seconds: between polls while records keep coming.
        interval_max_seconds: between polls while the lane stays empty.
        priority: 0 to 60; each step counts as a second of waiting when lanes compete.
        queue: the Celery queue of this lane's steps; workers must read it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,32}$")]
    filter: Annotated[Mapping[str, str | int], BeforeValidator(values.record_filter)] = {}
    order: Annotated[Mapping[str, Literal["ASC", "DESC"]], BeforeValidator(values.record_order)] = {"ID": "ASC"}
    batch_size: BatchSize = 50
    batch_size_max: BatchSize | None = None
    interval_min_seconds: Seconds = 1.0
    interval_max_seconds: Seconds = 30.0
    priority: Annotated[int, Field(ge=0, le=60)] = 0
    queue: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = QUEUE_EVENTS

    @property
    def largest(self) -> int:
        """Records of one call while batches are full."""
        given = self.batch_size if "batch_size" in self.model_fields_set else LARGEST_BATCH
        return max(self.batch_size, self.batch_size_max or given)


def next_batch_size(lane: Lane, received: int) -> int:
    """Return how many records to ask for after a call that brought so many: twice as many, within the lane's bounds."""
    return min(lane.largest, max(lane.batch_size, 2 * received))


def lanes_from_json(value: object) -> object:
    """Return the value of `B24_LANES`: a JSON array of lanes with distinct names. Raise ValueError otherwise."""
    rows: Any = values.parsed_json(value) if isinstance(value, str) else value
    if not isinstance(rows, list | tuple):
        raise ValueError("must be a JSON array of lanes")  # noqa: TRY004 - pydantic reports ValueError
    names = [str(row.get("name") if isinstance(row, Mapping) else getattr(row, "name", None)) for row in rows]
    if len(set(names)) != len(names):
        raise ValueError("must give each lane a name of its own")
    if DEFAULT_LANE in names:
        raise ValueError(f"must not name a lane {DEFAULT_LANE!r}: it exists already")
    return tuple(rows)


def choose(lanes: Mapping[str, Lane], waited_ms: Mapping[str, int]) -> str | None:
    """Return the lane to poll next, None when no lane is due.

    ``waited_ms``: lane -> how long it has been due, negative while it is not.
    """
    due = [name for name in lanes if waited_ms.get(name, -1) >= 0]
    return max(due, key=lambda name: (waited_ms[name] + lanes[name].priority * PRIORITY_WORTH_MS, name), default=None)
