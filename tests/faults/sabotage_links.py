"""Switches the verification of every link off, as the libraries' own defaults or a hasty operator would.

What notices is `tests/integration/tasks/test_verified_links.py`.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final

import requests

from b24offline import runtime
from b24offline.settings import celeryconfig
from b24offline.store import database

_NOBODY: Final = {"ssl_cert_reqs": "none", "ssl_check_hostname": False}

if TYPE_CHECKING:
    from tests.faults.sabotage_portal import Put


def without_verification(put: Put) -> None:
    """Verify nobody, on no link."""

    def hasty(*given: Any, **more: Any) -> requests.Session:
        session = honest(*given, **more)
        session.verify = False
        return session

    honest = runtime.make_session
    put(runtime, "make_session", hasty)
    put(runtime, "_verified", lambda config: _NOBODY if config.redis_url.startswith("rediss") else {})
    put(database, "verification", lambda url, ca_file: {"sslmode": "require"})
    amqps = celeryconfig.broker_url.startswith("amqps")
    put(celeryconfig, "broker_use_ssl", {"cert_reqs": ssl.CERT_NONE} if amqps else {"ssl_cert_reqs": ssl.CERT_NONE})
