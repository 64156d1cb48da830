"""An authorization server that hangs holds few workers: refreshes share the places of calls to silent portals."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from b24offline import keys
from b24offline.errors import AuthServerUnavailable, B24OfflineError, RateLimited
from b24offline.rest import AuthServers, CallRules, Http, TokenSource, make_session
from b24offline.rest.call_slots import CallSlots
from b24offline.store import Cipher, Store
from tests.support.served import served
from tests.support.store_bench import KEY
from tests.support.waiting import wait_until

URL = "https://oauth.example/oauth/token/"
HANGS_SECONDS = 0.5
LATE_SECONDS = 0.2
PORTALS, WORKERS = 40, 8


def servers_of(redis: Redis, prefix: str = "t") -> AuthServers:
    slots = CallSlots(redis, key_prefix=prefix, rules=CallRules(lease_seconds=5.0), request_seconds=0.5)
    return AuthServers(redis, slots, key_prefix=prefix, late_seconds=LATE_SECONDS)


def unanswered() -> AuthServerUnavailable:
    return AuthServerUnavailable("acme", "oauth.token", None, "", "no answer")


def refused() -> AuthServerUnavailable:
    return AuthServerUnavailable("acme", "oauth.token", 502, "", "answered, if not well")


@pytest.fixture
def hold(redis: Redis) -> Iterator[Callable[..., threading.Thread]]:
    """Let a refresh be under way until the test ends."""
    over, threads = threading.Event(), []

    def begin(servers: AuthServers, portal: str) -> threading.Thread:
        began = threading.Event()

        def request() -> None:
            began.set()
            over.wait()

        threads.append(threading.Thread(target=servers.ask, args=(portal, URL, request)))
        threads[-1].start()
        assert began.wait(10)
        return threads[-1]

    yield begin
    over.set()
    for thread in threads:
        thread.join()


def test_what_is_answered_leaves_nothing_behind(redis: Redis) -> None:
    servers = servers_of(redis)
    assert [servers.ask(f"p{number}", URL, lambda: "pair") for number in range(5)] == ["pair"] * 5
    assert not servers.is_silent(URL)
    assert not redis.exists(keys.refreshes("t", "oauth.example"), keys.suspects("t"))


def test_after_one_without_an_answer_the_next_take_a_place_until_one_is_answered(
    redis: Redis, hold: Callable[..., threading.Thread]
) -> None:
    servers = servers_of(redis)
    servers.ask("p0", URL, unanswered)
    assert servers.is_silent(URL)
    hold(servers, "p1")
    with pytest.raises(RateLimited):
        servers.ask("p2", URL, lambda: "pair")
    assert servers.ask("p2", "https://other.example/oauth/token/", refused)
    assert servers.is_silent(URL), "the answer of another server tells nothing"
    redis.delete(keys.suspects("t"))
    servers.ask("p3", URL, refused)
    assert not redis.exists(keys.auth_silent("t", "oauth.example")), "an error is an answer"


def test_while_one_is_late_the_next_take_a_place(redis: Redis, hold: Callable[..., threading.Thread]) -> None:
    servers = servers_of(redis)
    hold(servers, "p1")
    hold(servers, "p2")
    wait_until(lambda: servers.is_silent(URL), "they are late")
    hold(servers, "p3")
    with pytest.raises(RateLimited):
        servers.ask("p4", URL, lambda: "pair")


def test_one_of_a_killed_process_is_forgotten(redis: Redis) -> None:
    now_ms = round(time.time() * 1000)
    redis.zadd(keys.refreshes("t", "oauth.example"), {"dead": now_ms - 301_000, "ahead": now_ms + 60_000})
    assert not servers_of(redis).is_silent(URL)


def test_without_the_ledger_anybody_asks() -> None:
    servers = servers_of(Redis(port=1, socket_connect_timeout=0.2))
    with pytest.raises(RedisError):
        servers._redis.ping()
    assert not servers.is_silent(URL)


class Hangs:
    """An authorization server that does not answer in time; it counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = itertools.count()

    def __call__(self, environ: object, start_response: Callable[..., object]) -> list[bytes]:
        next(self.asked)
        time.sleep(2 * HANGS_SECONDS)
        start_response("504 Gateway Timeout", [])
        return [b""]


def seeded(folder: Path, url: str, portals: int) -> Store:
    store = Store(f"sqlite:///{folder}/b24.db", Cipher([KEY]))
    store.create_schema()
    for number in range(portals):
        store.portals.seed(
            f"p{number}",
            client_endpoint=f"https://p{number}.example/rest/",
            auth_url=url,
            client_id="app.1",
            client_secret="secret",
            connector="c",
            refresh_token="r",
        )
    return store


@pytest.mark.parametrize("bounded", [True, False], ids=["with the places", "without them"])
def test_workers_are_left_for_portals_whose_tokens_are_good(redis: Redis, tmp_path: Path, bounded: bool) -> None:
    """Eight workers; the tokens of 40 portals are expired and their server hangs: each that asks holds a worker."""
    hangs = Hangs()
    with served(hangs) as address:
        store = seeded(tmp_path, f"{address}/oauth/token/", PORTALS)
        http = Http(make_session(), 1.0, HANGS_SECONDS, 1 << 20, loopback_http=True)
        source = TokenSource(store.tokens, http, servers=servers_of(redis) if bounded else None)

        def refresh(name: str) -> None:
            with pytest.raises(B24OfflineError):
                source.current(name)

        with ThreadPoolExecutor(WORKERS) as workers:
            list(workers.map(refresh, [f"p{number}" for number in range(PORTALS)]))
    asked = next(hangs.asked)
    # A first wave, as nobody knows; then one at a time, while all others are put off at once.
    assert asked <= 2 * WORKERS if bounded else asked == PORTALS
