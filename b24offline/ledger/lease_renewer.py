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
class _Lease:
    ledger: Ledger
    run: str
    attempt: int
    position: int


class LeaseRenewer:
    """The leases of this process. The thread starts with the first lease and ends with the process."""

    def __init__(self, interval_seconds: float) -> None:
        self._interval = interval_seconds
        self._leases: set[_Lease] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def renewing(self, ledger: Ledger, run: str, attempt: int, position: int) -> Iterator[None]:
        """Renew this lease until the block ends."""
        lease = _Lease(ledger, run, attempt, position)
        with self._lock:
            self._leases.add(lease)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="lease-renewer", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._leases.discard(lease)

    def _work(self) -> None:
        pause = threading.Event()
        while not pause.wait(self._interval):
            with self._lock:
                leases = tuple(self._leases)
            for lease in leases:
                self._renew(lease)

    def _renew(self, lease: _Lease) -> None:
        try:
            if lease.ledger.renew(lease.run, lease.attempt, lease.position):
                return
        except RedisError:
            log.warning("lease not renewed, the ledger cannot be reached", extra={"portal": lease.ledger.portal})
            return
        except LedgerSchemaMismatch:
            pass  # Lost; the next transition of this ledger raises the error where it is seen.
        with self._lock:
            still_running = lease in self._leases
            self._leases.discard(lease)
        if still_running:
            log.warning("lease lost while running", extra={"portal": lease.ledger.portal, "run": lease.run})
