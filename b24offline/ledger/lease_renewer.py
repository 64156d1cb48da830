"""Renews the leases of the steps that run in this process, from one thread, so that a long step is not run twice."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from b24offline.ledger.schema import LedgerSchemaMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from b24offline.ledger.ledger import Ledger

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class _Held:
    ledger: Ledger
    run: str
    attempt: int
    position: int


class LeaseRenewer:
    """Holds leases while steps run. The thread starts with the first lease and ends with the process."""

    def __init__(self, interval_seconds: float) -> None:
        self._interval = interval_seconds
        self._held: set[_Held] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def holding(self, ledger: Ledger, run: str, attempt: int, position: int) -> Iterator[None]:
        """Renew this lease until the block ends."""
        held = _Held(ledger, run, attempt, position)
        with self._lock:
            self._held.add(held)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="lease-keeper", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(held)

    def _work(self) -> None:
        pause = threading.Event()
        while not pause.wait(self._interval):
            with self._lock:
                held = tuple(self._held)
            for one in held:
                self._renew(one)

    def _renew(self, held: _Held) -> None:
        try:
            if held.ledger.renew(held.run, held.attempt, held.position):
                return
        except RedisError:
            log.warning("lease not renewed, the ledger cannot be reached", extra={"portal": held.ledger.portal})
            return
        except LedgerSchemaMismatch:
            pass  # lost; whatever touches this ledger next says why
        with self._lock:
            still_running = held in self._held
            self._held.discard(held)
        if still_running:
            log.warning("lease lost while running", extra={"portal": held.ledger.portal, "run": held.run})
