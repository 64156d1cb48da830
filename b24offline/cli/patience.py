"""Commands that call a portal share its rate limit with the workers: they wait for their turn, workers do not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

from b24offline.errors import RateLimited

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")

PATIENCE_SECONDS: Final = 60.0


def patiently(work: Callable[[], _T], *, sleep: Callable[[float], object] = time.sleep) -> _T:
    """Return what ``work`` returns; repeat it while its portal's rate limit refuses it, for a minute at most.

    ``work`` must bear to be begun again. What refuses it for longer, as a portal that is blocked, is raised at once.
    """
    left_seconds = PATIENCE_SECONDS
    while True:
        try:
            return work()
        except RateLimited as error:
            if type(error) is not RateLimited or error.wait_seconds > left_seconds:
                raise
            wait_seconds = max(error.wait_seconds, 0.1)
            sleep(wait_seconds)
            left_seconds -= wait_seconds
