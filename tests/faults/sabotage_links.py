"""Switches the verification of every link off, as the libraries' own defaults or a hasty operator would.

What notices is `tests/integration/tasks/test_verified_links.py`, link by link, and a fault row for the portal's.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final

import requests

from b24offline import runtime
from b24offline.settings import celeryconfig
from b24offline.store import database

_NOBODY: Final = {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
_HASTY_BROKERS: Final = {"amqps": "cert_reqs", "rediss": "ssl_cert_reqs"}
"""Scheme of a broker that is reached by TLS -> the name of the option in its library."""

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
    scheme = celeryconfig.broker_url.partition(":")[0]
    if scheme in _HASTY_BROKERS:
        put(celeryconfig, "broker_use_ssl", {_HASTY_BROKERS[scheme]: ssl.CERT_NONE})
