"""What follows from several settings together: defaults, contradictions, and which addresses may be called. Pure."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from b24offline.config.env import EXAMPLES
from b24offline.config.validators import web_address

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

DEFAULT_REDIS_URL: Final = "redis://127.0.0.1:6379/0"

_LONGEST_CALL_SECONDS: Final = 70.0


def refused_address(portal_url: str, auth_url: str, *, loopback_http: bool, auth_hosts: Collection[str]) -> str:
    """Return why one of two well-formed addresses is not used, as the end of a sentence about it; "" when it is."""
    if (portal_url or auth_url).startswith("http:"):
        return "" if loopback_http else "is plain http, which needs B24_LOOPBACK_HTTP=true, e.g. for the emulator"
    allowed = not auth_url or urlsplit(auth_url).hostname in auth_hosts
    return "" if allowed else f"is on a host that is not in B24_AUTH_HOSTS, which has {', '.join(sorted(auth_hosts))}"


def refused_endpoint(client_endpoint: str, *, loopback_http: bool) -> str:
    """Return why a stored address of a portal may not be called, as the end of a sentence about it; "" when it may."""
    try:
        web_address(client_endpoint)
    except ValueError as error:
        return str(error)
    return refused_address(client_endpoint, "", loopback_http=loopback_http, auth_hosts=())


def with_derived_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given values plus the defaults that follow from them: broker, database, name of the portal."""
    derived = dict(given)
    derived.setdefault("broker_url", given.get("redis_url", DEFAULT_REDIS_URL))
    derived.setdefault("broker_primary", given.get("redis_primary", "mymaster"))
    derived.setdefault("database_url", f"sqlite:///{Path(given.get('data_dir', './.data')) / 'b24offline.db'}")
    if given.get("portal_name") is None and isinstance(given.get("portal_url"), str):
        host = None
        with suppress(ValueError):  # a malformed address is reported by its own check
            host = urlsplit(given["portal_url"]).hostname
        if host and re.fullmatch(r"[a-z0-9._-]{1,64}", host):
            derived["portal_name"] = host
    return derived


def contradictions(config: Any) -> Iterator[str]:
    """Yield a sentence for each rule between several settings that is broken."""
    if config.portal_url is not None:
        if config.client_id is None:
            yield "B24_CLIENT_ID is required because B24_PORTAL_URL is set, e.g. local.5f3a0b6c1d2e.81."
        if config.client_secret is None:
            yield (
                "B24_CLIENT_SECRET (or B24_CLIENT_SECRET_FILE) is required because B24_PORTAL_URL is set: "
                "the application key shown beside its code in the portal."
            )
        if config.portal_name is None:
            yield "B24_PORTAL_NAME is required because the host cannot serve as a name, e.g. acme."
    for name, why in (
        ("B24_PORTAL_URL", config.refused_address(portal_url=config.portal_url or "")),
        ("B24_AUTH_URL", config.refused_address(auth_url=config.auth_url)),
        ("B24_PUSH_URL", config.refused_address(portal_url=config.push_url or "")),
    ):
        if why:
            yield f"{name} {why}."
    if config.issue_webhook_url is not None:
        if config.issue_webhook_secret is None:
            yield (
                "B24_ISSUE_WEBHOOK_SECRET (or B24_ISSUE_WEBHOOK_SECRET_FILE) is required because "
                f"B24_ISSUE_WEBHOOK_URL is set; use {EXAMPLES['issue_webhook_secret']}."
            )
        if why := config.refused_address(portal_url=config.issue_webhook_url.get_secret_value()):
            yield f"B24_ISSUE_WEBHOOK_URL {why}."
    if config.secret_key is None and not config.database_url.startswith("sqlite"):
        yield (
            "B24_SECRET_KEY (or B24_SECRET_KEY_FILE) is required because B24_DATABASE_URL is not SQLite; "
            f"use {EXAMPLES['secret_key']}."
        )
    yield from _intervals(config)
    if config.connect_timeout_seconds + config.read_timeout_seconds > _LONGEST_CALL_SECONDS:
        yield "B24_CONNECT_TIMEOUT_SECONDS and B24_READ_TIMEOUT_SECONDS must not exceed 70 s together."


def _intervals(config: Any) -> Iterator[str]:
    if config.poll_interval_min_seconds > config.poll_interval_max_seconds:
        yield "B24_POLL_INTERVAL_MIN_SECONDS must not exceed B24_POLL_INTERVAL_MAX_SECONDS, e.g. 1 and 30."
    if config.push_url is not None and config.push_idle_seconds < config.poll_interval_max_seconds:
        yield "B24_PUSH_IDLE_SECONDS must not be less than B24_POLL_INTERVAL_MAX_SECONDS, e.g. 300 and 30."
