"""The `Runtime` of this process. A forked child makes its own: sessions and connections must not be shared."""

from __future__ import annotations

import os
import threading

from b24offline.ledger import LeaseKeeper
from b24offline.runtime import Runtime
from b24offline.settings import config

_lock = threading.Lock()
_made: dict[int, tuple[Runtime, LeaseKeeper]] = {}


def _of_this_process() -> tuple[Runtime, LeaseKeeper]:
    pid = os.getpid()
    if pid not in _made:
        with _lock:
            if pid not in _made:
                _made.clear()
                _made[pid] = (Runtime(config), LeaseKeeper(config.timers.lease_seconds / 3))
    return _made[pid]


def runtime() -> Runtime:
    """The objects of this process."""
    return _of_this_process()[0]


def lease_keeper() -> LeaseKeeper:
    """What renews the leases of the steps that run in this process."""
    return _of_this_process()[1]
