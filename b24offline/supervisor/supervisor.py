"""Keep a set of processes running, pass on their output line by line, and end them in order.

One thread and one loop notice signals, deaths and output alike. A process that dies or hangs is restarted after a wait
that doubles while it keeps dying; it is never given up.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from b24offline.supervisor.heartbeats import listen
from b24offline.supervisor.process import Program, Supervised

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

log = logging.getLogger(__name__)

FIRST_READY_SECONDS: Final = 20.0
"""After this the others start even if the first is not ready: they wait for it themselves."""
HUNG_SECONDS: Final = 120.0
"""A process that is silent for longer, while others are heard, hangs. A start with large imports must fit in."""
_LOOK_SECONDS: Final = 0.25
_FIRST_LOOK_SECONDS: Final = 0.05
"""How often the first program is asked whether it is ready: all others wait for it."""
_LISTEN_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Grace:
    """Seconds that processes get to end: all but the first one, and then the first."""

    others_seconds: float = 12.0
    last_seconds: float = 2.0


class Supervisor:
    """Runs programs until SIGTERM, SIGINT or SIGHUP; a second signal kills them at once.

    ``first`` starts before the others, which wait until ``ready`` is true for its process id, and ends after them.
    ``say`` gets the program's name and each line. A program with a heartbeat file is restarted when it has been silent
    for ``hung_seconds`` while others were heard.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        say: Callable[[str, str], None],
        first: Program | None = None,
        ready: Callable[[int], bool] = lambda _pid: True,
        grace: Grace | None = None,
        hung_seconds: float = HUNG_SECONDS,
    ) -> None:
        self._selector = selectors.DefaultSelector()
        self._others = [Supervised(program, self._selector, say) for program in programs]
        self._first = Supervised(first, self._selector, say) if first else None
        self._ready = ready
        self._grace = grace or Grace()
        self._hung_seconds = hung_seconds
        self._listened_at = 0.0
        self._signals = 0

    def run(self) -> None:
        """Run until a signal. Return when everything has ended."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        self._selector.register(reading, selectors.EVENT_READ)
        known = [(number, signal.getsignal(number)) for number in _SIGNALS]
        former = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # nohup has SIGHUP ignored; it stays so.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        # Python wakes the loop only for signals that have a handler.
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        try:
            self._start()
            while not self._signals:
                self._turn()
        finally:
            self._stop()
            signal.set_wakeup_fd(former)
            for number, handler in known:
                signal.signal(number, handler)
            self._selector.close()
            os.close(reading)
            os.close(writing)

    def request_stop(self) -> None:
        """End everything, as a signal does."""
        self._signals += 1

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.request_stop()

    def _start(self) -> None:
        if self._first:
            self._first.start()
            give_up = time.monotonic() + FIRST_READY_SECONDS
            while not self._signals and time.monotonic() < give_up and not self._ready(self._first.pid):
                self._turn(_FIRST_LOOK_SECONDS)
        for child in self._others:
            if not self._signals:
                child.start()

    def _turn(self, seconds: float = _LOOK_SECONDS) -> None:
        """Wait for output, a death or a signal, and act on it."""
        self._read(seconds)
        for child in (*([self._first] if self._first else []), *self._others):
            child.look_after()
        self._listen()

    def _listen(self) -> None:
        """Kill what hangs. Of a long time since the last look only a little counts: this process may have slept."""
        now = time.monotonic()
        since = now - self._listened_at
        if since < _LISTEN_SECONDS:
            return
        self._listened_at = now
        heard = {child: child.heartbeat for child in self._others if child.heartbeat and child.alive}
        listen(list(heard.values()), min(since, 2 * _LISTEN_SECONDS))
        for child, heartbeat in heard.items():
            if heartbeat.missed_seconds >= self._hung_seconds:
                child.kill_hung()

    def _read(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            if isinstance(key.data, Supervised):
                key.data.read()
            else:
                with suppress(BlockingIOError):
                    os.read(key.fd, 4096)

    def _stop(self) -> None:
        log.info("stopping, a second signal kills all processes")
        self._end(self._others, self._grace.others_seconds)
        if self._first:
            self._end([self._first], self._grace.last_seconds)
        log.info("stopped")

    def _end(self, children: Sequence[Supervised], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for child in children:
            child.terminate()
        while any(child.alive for child in children) and time.monotonic() < deadline and self._signals < 2:
            self._read(0.05)
        for child in children:
            child.kill()


_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
