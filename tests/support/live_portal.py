"""An emulated portal in a process of its own, and the real client, tokens and pace to reach it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from b24offline.emulator import EmulatorProcess
from b24offline.rest import Http, PortalClient, RateLimiter, RestClient, TokenSource, make_session
from b24offline.store import Cipher, Store
from tests.support.core_events import PORTAL, PREFIX
from tests.support.portal_desk import CONNECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis

    from b24offline.emulator import Control


@dataclass
class LivePortal:
    """The portal's control, the client, and the store that knows it."""

    control: Control
    client: PortalClient
    store: Store
    since: int = 0

    def begin(self) -> None:
        """Forget the calls so far."""
        self.since = self.seq()

    def calls(self) -> list[str]:
        """Return the methods that were called since `begin`."""
        return self.calls_since(self.since)

    def seq(self) -> int:
        return int(self.control.state()["seq"])

    def calls_since(self, seq: int) -> list[str]:
        return [entry["method"] for entry in self.control.requests(seq)]


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorProcess]:
    with EmulatorProcess(objects=120) as process:
        yield process


@pytest.fixture
def live(emulator: EmulatorProcess, redis: Redis, tmp_path: Path) -> Iterator[LivePortal]:
    control = emulator.control()
    store = Store(f"sqlite:///{tmp_path}/store.db", Cipher(["A" * 43 + "="]))
    store.create_schema()
    store.portals.seed(
        PORTAL,
        client_endpoint=emulator.rest,
        auth_url=emulator.auth_url,
        client_id=emulator.client_id,
        client_secret=emulator.client_secret,
        connector=CONNECTOR,
        refresh_token=control.issue_token()["refresh_token"],
    )
    http = Http(
        make_session(),
        connect_timeout_seconds=2,
        read_timeout_seconds=10,
        max_response_bytes=1 << 22,
        loopback_http=True,
    )
    tokens = TokenSource(store.tokens, http)
    rest = RestClient(PORTAL, emulator.rest, http)
    rate_limiter = RateLimiter(redis, key_prefix=PREFIX, requests_per_second=500, burst=500)
    client = PortalClient(rest, tokens, rate_limiter, PORTAL, max_wait_seconds=5)
    client.call("server.time")
    yield LivePortal(control, client, store)
    control.disarm()
    control.drop_subscriptions()
    control.licence(rest_offline_extended=True, rest_auth_connector=True)
    control.user(admin=True)
    control.close()
    http.session.close()
