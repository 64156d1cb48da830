"""Renews the leases of the steps that run in this process, from one thread, so that a long step is not run twice.

A step that hangs must not keep its lease for ever: each lease has a deadline.
"""

from __future__ import annotations

import ctypes
import logging
import math
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from b24offline.ledger.schema import LedgerSchemaMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from b24offline.ledger.ledger import Ledger

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StepLimits:
    """How long a step may take.

    Attributes:
        hard_seconds: after this its lease is not renewed any more.
        soft_seconds: after this ``interruption`` is raised in its thread, once: Python code ends by it, a call that
            blocks does not.
        interruption: None where the pool of the worker does that itself.
    """

    hard_seconds: float = math.inf
    soft_seconds: float = math.inf
    interruption: type[Exception] | None = None


@dataclass(eq=False, slots=True)
class _Lease:
    portal: str
    run: str
    renew: Callable[[], object]
    limits: StepLimits
    thread: int = field(default_factory=threading.get_ident)
    began: float = field(default_factory=time.monotonic)
    ending: threading.Lock = field(default_factory=threading.Lock)
    over: bool = False

    def interrupt(self) -> None:
        """Raise the interruption in the step's thread, unless the step has ended, or is ending now."""
        if self.ending.acquire(blocking=False):
            try:
                if not self.over:
                    self.over = True
                    thread, error = ctypes.c_ulong(self.thread), ctypes.py_object(self.limits.interruption)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, error)
            finally:
                self.ending.release()


class LeaseRenewer:
    """The leases of this process. The thread starts with a lease, and again if it should have died."""

    def __init__(self, interval_seconds: float) -> None:
        self._interval = interval_seconds
        self._leases: set[_Lease] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def renewing(
        self, ledger: Ledger, run: str, attempt: int, position: int, limits: StepLimits | None = None
    ) -> Iterator[None]:
        """Renew this lease until the block ends, or is given up."""
        renew = partial(ledger.renew, run, attempt, position)
        with self.keeping(ledger.portal, run, renew, limits or StepLimits()):
            yield

    @contextmanager
    def keeping(self, portal: str, run: str, renew: Callable[[], object], limits: StepLimits) -> Iterator[None]:
        """Call ``renew`` until the block ends, or is given up, or it returns false: the lease is lost.

        ``portal`` and ``run`` say in the log whose lease it is.
        """
        lease = _Lease(portal, run, renew, limits)
        with self._lock:
            self._leases.add(lease)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="lease-renewer", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with lease.ending:
                lease.over = True
            with self._lock:
                self._leases.discard(lease)

    def _work(self) -> None:
        pause = threading.Event()
        while not pause.wait(self._interval):
            with self._lock:
                leases = tuple(self._leases)
            for lease in leases:
                try:
                    self._look_after(lease)
                except Exception:
                    log.exception("lease not renewed", extra={"portal": lease.portal, "run": lease.run})

    def _look_after(self, lease: _Lease) -> None:
        taken = time.monotonic() - lease.began
        if taken >= lease.limits.hard_seconds:
            with self._lock:
                self._leases.discard(lease)
            fields = {"portal": lease.portal, "run": lease.run, "seconds": round(taken)}
            log.error("step hangs, its lease is not renewed any more", extra=fields)
            return
        if taken >= lease.limits.soft_seconds and lease.limits.interruption and not lease.over:
            lease.interrupt()
        self._renew(lease)

    def _renew(self, lease: _Lease) -> None:
        try:
            if lease.renew():
                return
        except RedisError:
            log.warning("lease not renewed, the ledger cannot be reached", extra={"portal": lease.portal})
            return
        except LedgerSchemaMismatch:
            pass  # Lost; the next transition of this ledger raises the error where it is seen.
        with self._lock:
            still_running = lease in self._leases
            self._leases.discard(lease)
        if still_running:
            log.warning("lease lost while running", extra={"portal": lease.portal, "run": lease.run})
