"""The client of the ledger's server: of one address, or of the primary that Sentinels name at the moment."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote, urlsplit

from redis import Redis
from redis.sentinel import Sentinel

_BOUNDS: Final[dict[str, Any]] = {"socket_connect_timeout": 5, "socket_timeout": 30}
_SENTINEL_BOUNDS: Final = {"socket_connect_timeout": 2, "socket_timeout": 5}
"""Seconds to wait for one of the Sentinels: the next one is asked then."""
_SENTINEL_PORT: Final = 26379


def connect(url: str, *, primary: str, sentinel_password: str | None, **verified: Any) -> Redis:
    """Return a client that connects when it is first used.

    Sentinels are given as Celery's brokers are, ``sentinel://:password@host:26379/0;sentinel://host2:26379``: user,
    password and database of the first address are those of the primary. Every connection asks them for the primary, and
    one to a server that has become a replica is closed at its first write. ``verified``: how a certificate is verified.
    """
    options = {"decode_responses": True, "health_check_interval": 30, **_BOUNDS}
    if not url.startswith("sentinel://"):
        return Redis.from_url(url, **options, **verified)
    parts = [urlsplit(each) for each in url.split(";")]
    named = {"username": parts[0].username, "password": parts[0].password}
    options |= {name: unquote(value) for name, value in named.items() if value}
    sentinels = Sentinel(  # type: ignore[no-untyped-call]
        [(part.hostname or "", part.port or _SENTINEL_PORT) for part in parts],
        sentinel_kwargs={**_SENTINEL_BOUNDS, "password": sentinel_password},
        db=int(parts[0].path.strip("/") or 0),
        **options,
    )
    client: Redis = sentinels.master_for(primary)  # type: ignore[no-untyped-call]
    return client
