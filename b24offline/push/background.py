"""Work that calls others, behind the answers: a slow portal must not hold up the messages of all."""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from b24offline.errors import B24OfflineError

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

THREADS: Final = 2
MOST_WAITING: Final = 50


class Background:
    """A few threads and a short queue; what finds it full is refused."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[Callable[[], object]] = queue.Queue(MOST_WAITING)
        self._finished = threading.Event()
        for number in range(THREADS):
            threading.Thread(target=self._work, name=f"proving-{number}", daemon=True).start()

    def add(self, work: Callable[[], object]) -> bool:
        """Let a thread do this soon. Return whether there was room."""
        try:
            self._waiting.put_nowait(work)
        except queue.Full:
            return False
        return True

    def repeat(self, work: Callable[[], object], pause_seconds: float) -> None:
        """Do this in a thread of its own, now and after each pause, until `finish`."""

        def again() -> None:
            _attempt(work)
            while not self._finished.wait(pause_seconds):
                _attempt(work)

        threading.Thread(target=again, name="repeating", daemon=True).start()

    def finish(self) -> None:
        """Repeat nothing any more, and wait until everything that was added is done."""
        self._finished.set()
        self._waiting.join()

    def _work(self) -> None:
        while True:
            work = self._waiting.get()
            _attempt(work)
            self._waiting.task_done()


def _attempt(work: Callable[[], object]) -> None:
    try:
        work()
    except (B24OfflineError, RedisError) as error:
        log.error("message not acted upon", extra={"why": str(error), "error": type(error).__name__})  # noqa: TRY400 - a sentence
    except Exception:
        log.exception("message not acted upon")  # the boundary of one message: the next is another portal's
