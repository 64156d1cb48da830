"""The `Runtime` of this process. A forked child builds its own: sessions and connections must not be shared."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from b24offline.ledger import LeaseRenewer
from b24offline.runtime import Runtime
from b24offline.settings import config

_lock = threading.Lock()
_made: dict[int, tuple[Runtime, LeaseRenewer]] = {}


def _of_this_process() -> tuple[Runtime, LeaseRenewer]:
    pid = os.getpid()
    if pid not in _made:
        with _lock:
            if pid not in _made:
                _made.clear()
                _made[pid] = (Runtime(config), LeaseRenewer(config.timers.lease_seconds / 3))
    return _made[pid]


@contextmanager
def using(runtime: Runtime) -> Iterator[None]:
    """Let this process work with a runtime of the caller's."""
    before = dict(_made)
    _made.clear()
    _made[os.getpid()] = (runtime, LeaseRenewer(runtime.timers.lease_seconds / 3))
    try:
        yield
    finally:
        _made.clear()
        _made.update(before)


def current_runtime() -> Runtime:
    """Return the runtime of this process."""
    return _of_this_process()[0]


def lease_renewer() -> LeaseRenewer:
    """Return the renewer of the leases of the steps that run in this process."""
    return _of_this_process()[1]
