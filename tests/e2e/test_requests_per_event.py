"""What an event costs in requests to the portal, every object read: counts, which no slow machine changes.

An idle poll is no cost of an event: of the reserving calls those count that brought records. Nor are the looks at the
queue that are due by the clock, which is why it runs unscaled here: scaled, there would be twenty times as many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.stack import Stack
from tests.support.waiting import wait_until

CRM = ["crm_lead", "crm_deal", "crm_contact", "crm_company", "crm_item"]
BY_CLOCK = (">PROCESS_ID", "=ERROR")
"""Filters of the looks at all that is reserved, and at what is nacked."""
UNCOUNTED = {"event.offline.get", "oauth.token"}


def requests_per_event(stack: Stack, count: int, entities: list[str]) -> tuple[float, set[int]]:
    """Let objects change at once; return requests for each event, and the sizes of the batches."""
    before = stack.control.state()["seq"]
    stack.control.backlog(count, entities=entities)
    wait_until(lambda: stack.counters.get("events_acknowledged", 0) >= count and stack.settled(), "all is settled")
    assert stack.compare().equal
    batches = Counter(entry["process_id"] for entry in stack.history("reserved"))
    assert batches.total() == count, "none was reserved twice"
    sent = Counter(entry["method"] for entry in stack.control.requests(before) if not by_clock(entry))
    assert sent.keys() - UNCOUNTED <= {"batch", "event.offline.clear", "event.offline.list"}, "objects come in batches"
    requests = len(batches) + sum(number for method, number in sent.items() if method not in UNCOUNTED)
    return requests / count, set(batches.values())


def empty_polls(stack: Stack, since: int) -> int:
    """Return how many reserving calls there were since a request."""
    return sum(entry["method"] == "event.offline.get" for entry in stack.control.requests(since))


def by_clock(entry: dict[str, Any]) -> bool:
    """Return whether a request is a look that is due by the clock."""
    return bool({*entry["params"].get("filter", {})} & {*BY_CLOCK})


@pytest.mark.parametrize(("size", "count", "bound"), [(200, 2_000, 0.015), (500, 3_000, 0.006)])
def test_objects_that_are_listed_cost_three_requests_a_batch(
    start_stack: Callable[..., Stack], size: int, count: int, bound: float
) -> None:
    stack = start_stack(objects=count, time_scale=1.0, variables={"B24_BATCH_SIZE": str(size)})
    per_event, sizes = requests_per_event(stack, count, CRM)
    assert sizes == {size}
    assert per_event <= bound


@pytest.mark.parametrize(("entities", "bound"), [(CRM, 0.008), ([*CRM, "task"], 0.011)], ids=["listed", "and tasks"])
def test_batches_grow_while_they_are_full(start_stack: Callable[..., Stack], entities: list[str], bound: float) -> None:
    stack = start_stack(objects=6_000, time_scale=1.0)
    seq = stack.control.state()["seq"]
    wait_until(lambda: empty_polls(stack, seq) >= 2, "polls bring nothing: the next batch is small")
    per_event, sizes = requests_per_event(stack, 6_000, entities)
    assert (min(sizes) <= 50, max(sizes)) == (True, 500)
    assert per_event <= bound
