"""When a worker is to end because of its store."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING

import pytest

from b24offline.errors import StoreError, StoreUnavailable
from b24offline.tasks.store_watch import watch

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.mark.parametrize(
    ("looks", "why"),
    [
        ((None, None, StoreError("too new")), "too new"),
        ((StoreUnavailable("away"), None, StoreUnavailable("away"), StoreError("too new")), "too new"),
        ((None, StoreUnavailable("away"), "stopped"), None),
    ],
    ids=["refused", "away, then refused", "away, then stopped"],
)
def test_a_worker_ends_when_its_store_refuses_it(looks: Sequence[Exception | str | None], why: str | None) -> None:
    ended, left = Event(), iter(looks)

    def look() -> None:
        found = next(left)
        if isinstance(found, Exception):
            raise found
        if found:
            ended.set()

    assert watch(look, 0.001, ended) == why
    assert next(left, "none") == "none", "it looked no further"
