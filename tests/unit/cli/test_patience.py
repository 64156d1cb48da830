"""How long a command waits for its turn at a portal."""

from __future__ import annotations

from typing import Any

import pytest

from b24offline.cli.patience import PATIENCE_SECONDS, patiently
from b24offline.errors import RateLimited
from b24offline.rest import PortalBlocked


class Work:
    """Refused a few times, then done."""

    def __init__(self, *refusals: RateLimited) -> None:
        self.refusals = list(refusals)
        self.slept: list[float] = []

    def __call__(self) -> str:
        if self.refusals:
            raise self.refusals.pop(0)
        return "done"

    def ends(self) -> str:
        return patiently(self, sleep=self.slept.append)


def test_a_command_waits_for_its_turn() -> None:
    work = Work(RateLimited("acme", 0.2), RateLimited("acme", 3.0))
    assert (work.ends(), work.slept) == ("done", [0.2, 3.0])


@pytest.mark.parametrize(
    "refusals",
    [
        [RateLimited("acme", PATIENCE_SECONDS + 1)],
        [RateLimited("acme", PATIENCE_SECONDS), RateLimited("acme", 1)],
        [PortalBlocked("acme", 1.0)],
    ],
    ids=["longer than a minute", "longer than a minute in all", "blocked"],
)
def test_a_command_does_not_wait_for_ever(refusals: list[Any]) -> None:
    with pytest.raises(RateLimited):
        Work(*refusals).ends()
