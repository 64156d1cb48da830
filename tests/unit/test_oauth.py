"""Token refresh against a small authorization server, by many processes at once."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
import sqlalchemy
from served import served
from werkzeug.wrappers import Request, Response

from b24offline import errors, oauth
from b24offline.oauth import TokenSource
from b24offline.store import Cipher, PortalState, Store, Tokens
from b24offline.transport import make_session

KEY = "A" * 43 + "="  # the same in every process
TIMEOUTS = {"connect_timeout_seconds": 2.0, "read_timeout_seconds": 3.0}


class AuthServer:
    """Changes refresh tokens for pairs; an old refresh token dies at once."""

    def __init__(self):
        self.lock = threading.Lock()
        self.valid = "canary-r0"
        self.issued = 0
        self.asked = []
        self.answer = None
        self.extra = {}
        self.delay_seconds = 0.0
        self.before_answer = lambda: None

    def __call__(self, environ, start_response):
        query = Request(environ).args.to_dict()
        with self.lock:
            self.asked.append(query)
            self.before_answer()
            status, content = self.answer or self.pair(query)
        time.sleep(self.delay_seconds)
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        return Response(content, status, content_type="application/json")(environ, start_response)

    def pair(self, query):
        if query["refresh_token"] != self.valid:
            return 400, {"error": "invalid_grant", "error_description": f"no {query['refresh_token']}"}
        self.issued += 1
        self.valid = f"canary-r{self.issued}"
        return 200, {
            "access_token": f"canary-a{self.issued}",
            "refresh_token": self.valid,
            "expires_in": 3600,
            "member_id": "m1",
            "client_endpoint": "https://acme.example/rest/",
            **self.extra,
        }


@pytest.fixture
def auth():
    app = AuthServer()
    with served(app) as url:
        app.url = f"{url}/oauth/token/"
        yield app


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def client_at(url):
    return redis.Redis.from_url(url, retry=None, socket_connect_timeout=1)


@pytest.fixture
def database(tmp_path):
    return f"sqlite:///{tmp_path}/b24.db"


def opened(database, **options):
    store = Store(database, Cipher([KEY]), **options)
    store.create_schema()
    return store


def seeded(database, auth, refresh_token="canary-r0", **options):
    store = opened(database, **options)
    store.seed_portal(
        "acme",
        client_endpoint="https://acme.example/rest/",
        auth_url=auth.url,
        client_id="app.1",
        client_secret="canary-secret",
        connector="c",
        refresh_token=refresh_token,
    )
    return store


def source_of(store, url, prefix, **options):
    return TokenSource(store, client_at(url), make_session(), key_prefix=prefix, **{**TIMEOUTS, **options})


def test_the_first_use_refreshes_and_stores_before_it_returns(auth, database, valkey, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    store = seeded(database, auth)
    tokens = source_of(store, valkey.url, tmp_path.name, clock=lambda: 1000.0).current("acme")
    assert (tokens.access, tokens.refresh, tokens.expires_at) == ("canary-a1", "canary-r1", 4600.0)
    assert opened(database).tokens("acme") == tokens
    assert store.portal("acme").member_id == "m1"
    assert auth.asked == [
        {
            "grant_type": "refresh_token",
            "client_id": "app.1",
            "client_secret": "canary-secret",
            "refresh_token": "canary-r0",
        }
    ]
    assert "canary" not in caplog.text


def test_a_pair_in_the_store_is_used_as_it_is(auth, database, valkey, tmp_path):
    source = source_of(seeded(database, auth), valkey.url, tmp_path.name)
    first = source.current("acme")
    assert source.current("acme") == first
    assert source_of(opened(database), valkey.url, tmp_path.name).current("acme") == first
    assert auth.issued == 1


def test_a_refresh_of_another_process_is_noticed_without_asking(auth, database, valkey, tmp_path):
    mine = source_of(seeded(database, auth), valkey.url, tmp_path.name)
    theirs = source_of(opened(database), valkey.url, tmp_path.name)
    stale = mine.current("acme").access
    newer = theirs.refresh("acme", stale)
    assert mine.refresh("acme", stale) == newer == mine.current("acme")
    assert auth.issued == 2
    assert mine.refresh("acme", newer.access).access == "canary-a3"


def refresh_in_process(barrier, results, database, url, prefix):
    source = source_of(opened(database), url, prefix)
    stale = source.current("acme").access
    barrier.wait()
    results.put((stale, source.refresh("acme", stale).access))


@pytest.mark.parametrize("redis_is_up", [True, False])
def test_of_eight_processes_one_refreshes(auth, database, valkey, tmp_path, redis_is_up):
    store = seeded(database, auth)
    source_of(store, valkey.url, tmp_path.name).current("acme")
    auth.delay_seconds = 0.3
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(8), context.Queue()
    url = valkey.url if redis_is_up else f"redis://127.0.0.1:{free_port()}"
    arguments = (barrier, results, database, url, tmp_path.name)
    processes = [context.Process(target=refresh_in_process, args=arguments, daemon=True) for _ in range(8)]
    for process in processes:
        process.start()
    seen = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 8
    assert seen == [("canary-a1", "canary-a2")] * 8
    assert len(auth.asked) == 2
    assert store.tokens("acme").refresh == auth.valid


def test_threads_of_one_process_share_a_refresh(auth, database, valkey, tmp_path):
    source = source_of(seeded(database, auth), valkey.url, tmp_path.name)
    stale = source.current("acme").access
    auth.delay_seconds = 0.1
    with ThreadPoolExecutor(12) as pool:
        seen = set(pool.map(lambda _: source.refresh("acme", stale).access, range(12)))
    assert seen == {"canary-a2"}
    assert len(auth.asked) == 2


def test_a_lock_that_ran_out_does_not_let_a_second_refresh_in(auth, database, valkey, tmp_path):
    store = seeded(database, auth)
    source = source_of(store, valkey.url, tmp_path.name)
    stale = source.current("acme").access
    # What a flush of Redis in the middle of a refresh leaves: the claim alone.
    assert store.claim_refresh("acme", store.tokens("acme").version, 30)
    waits = []

    def other_process_finishes(seconds):
        waits.append(seconds)
        version = store.tokens("acme").version
        store.save_tokens("acme", Tokens("canary-other", "canary-r", None, version + 1), version)

    waiting = source_of(store, valkey.url, tmp_path.name, sleep=other_process_finishes)
    assert waiting.refresh("acme", stale).access == "canary-other"
    assert (len(waits), auth.issued) == (1, 1)


def test_a_clock_that_is_ahead_does_not_let_a_second_refresh_in(auth, database, valkey, tmp_path, monkeypatch):
    monkeypatch.setattr(oauth, "_PATIENCE_SECONDS", 0.2)
    store = seeded(database, auth)
    source = source_of(store, valkey.url, tmp_path.name)
    stale = source.current("acme").access
    # A worker an hour ahead is at it: its claim is implausible here, its lock is not.
    ahead = opened(database, clock=lambda: time.time() + 3600)
    assert ahead.claim_refresh("acme", store.tokens("acme").version, 30)
    client_at(valkey.url).set(f"{tmp_path.name}:{{acme}}:refresh", "theirs", px=30_000)
    with pytest.raises(errors.PaceExceeded) as caught:
        source.refresh("acme", stale)
    assert 25 < caught.value.wait_seconds <= 30
    assert len(auth.asked) == 1


def test_a_lost_grant_sets_the_state_and_is_not_tried_again(auth, database, valkey, tmp_path, caplog):
    store = seeded(database, auth, refresh_token="canary-dead")
    source = source_of(store, valkey.url, tmp_path.name)
    for _ in range(3):
        with pytest.raises(errors.AuthLost, match="authorize the application again") as caught:
            source.current("acme")
    assert len(auth.asked) == 1
    portal = store.portal("acme")
    assert portal.state is PortalState.AUTH_LOST
    assert "(HTTP 400, invalid_grant, no ***). Install or authorize" in portal.state_reason
    (told,) = [r for r in caplog.records if r.message == "authorization lost"]
    assert (told.why, portal.state_actor) == (portal.state_reason, "portal administrator")
    assert "canary" not in f"{caught.value}{caught.value.args}{caplog.text}"
    seeded(database, auth, refresh_token="canary-r0")
    assert source.current("acme").access == "canary-a1"
    assert store.portal("acme").state is PortalState.ACTIVE


def test_a_lost_grant_of_an_older_pair_changes_nothing_and_the_new_one_is_used(auth, database, valkey, tmp_path):
    store = seeded(database, auth, refresh_token="canary-dead")

    def authorize():
        auth.before_answer = lambda: None
        store.authorize("acme", "canary-r0")

    auth.before_answer = authorize
    assert source_of(store, valkey.url, tmp_path.name).current("acme").access == "canary-a1"
    assert store.portal("acme").state is PortalState.ACTIVE


def test_a_pair_that_comes_after_a_new_authorization_is_dropped_for_one_of_that(auth, database, valkey, tmp_path):
    store = seeded(database, auth)
    source = source_of(store, valkey.url, tmp_path.name)
    stale = source.current("acme").access

    def authorize():
        store.authorize("acme", "canary-new")
        auth.answer, auth.valid = auth.pair(auth.asked[-1]), "canary-new"
        auth.before_answer = lambda: setattr(auth, "answer", None)

    auth.before_answer = authorize
    assert source.refresh("acme", stale).access == "canary-a3"
    assert [query["refresh_token"] for query in auth.asked] == ["canary-r0", "canary-r1", "canary-new"]
    assert store.tokens("acme") == source.current("acme")


def test_another_account_told_after_a_new_authorization_changes_nothing(auth, database, valkey, tmp_path):
    store = seeded(database, auth)
    store.bind_member("acme", "m1")
    auth.extra = {"member_id": "m2"}

    def authorize():
        store.authorize("acme", "canary-r1")
        auth.before_answer = lambda: auth.extra.update(member_id="m1")

    auth.before_answer = authorize
    assert source_of(store, valkey.url, tmp_path.name).current("acme").access == "canary-a2"
    assert store.portal("acme").state is PortalState.ACTIVE


def test_without_a_refresh_token_nothing_is_asked(auth, database, valkey, tmp_path):
    store = seeded(database, auth, refresh_token=None)
    with pytest.raises(errors.AuthLost):
        source_of(store, valkey.url, tmp_path.name).current("acme")
    assert auth.asked == []
    assert store.portal("acme").state is PortalState.AUTH_LOST


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (400, {"error": "invalid_client"}, errors.ClientRejected),
        (402, {"error": "PAYMENT_REQUIRED"}, errors.PaymentRequired),
        (500, {"error": "INTERNAL"}, errors.AuthServerUnavailable),
        (502, b"<html>", errors.AuthServerUnavailable),
        (200, b"<html>", errors.AuthServerUnavailable),
        (200, b"", errors.AuthServerUnavailable),
        (302, b"", errors.AuthServerUnavailable),
        (200, {"access_token": "a"}, errors.AuthServerUnavailable),
    ],
)
def test_a_failed_refresh_keeps_the_pair_and_rests(auth, database, valkey, tmp_path, status, content, kind):
    now = [1000.0]
    store = seeded(database, auth, clock=lambda: now[0])
    source = source_of(store, valkey.url, tmp_path.name)
    stale = source.current("acme").access
    auth.answer = (status, content)
    with pytest.raises(kind):
        source.refresh("acme", stale)
    with pytest.raises(errors.PaceExceeded) as caught:
        source.refresh("acme", stale)
    assert 0 < caught.value.wait_seconds <= 15
    assert len(auth.asked) == 2
    assert (store.tokens("acme").access, store.portal("acme").state) == (stale, PortalState.ACTIVE)
    auth.answer = None
    now[0] += 16
    assert source.refresh("acme", stale).access == "canary-a2"


def test_an_authorization_server_out_of_reach_costs_nothing(auth, database, valkey, tmp_path):
    auth.url = f"http://127.0.0.1:{free_port()}/oauth/token/"
    store = seeded(database, auth)
    with pytest.raises(errors.AuthServerUnavailable) as caught:
        source_of(store, valkey.url, tmp_path.name).current("acme")
    assert "canary" not in f"{caught.value}{caught.value.args}"
    assert store.tokens("acme").refresh == "canary-r0"


def test_another_account_is_refused_and_its_pair_not_stored(auth, database, valkey, tmp_path, caplog):
    store = seeded(database, auth)
    store.bind_member("acme", "m2")
    with pytest.raises(errors.MemberMismatch, match="m2, but m1"):
        source_of(store, valkey.url, tmp_path.name).current("acme")
    assert store.tokens("acme").refresh == "canary-r0"
    portal = store.portal("acme")
    assert (portal.state, portal.state_actor) == (PortalState.AUTH_LOST, "operator")
    assert [r.why for r in caplog.records if r.levelno == logging.ERROR] == [portal.state_reason]


@pytest.mark.parametrize("member", [{"member_id": None}, {"member_id": ""}, {"member_id": 5}])
def test_an_answer_without_a_member_id_is_taken(auth, database, valkey, tmp_path, member):
    auth.extra = {**member, "expires_in": "soon", "client_endpoint": None}
    store = seeded(database, auth)
    tokens = source_of(store, valkey.url, tmp_path.name).current("acme")
    assert (tokens.access, tokens.expires_at) == ("canary-a1", None)
    assert store.portal("acme").member_id is None


def test_another_endpoint_is_told_and_not_used(auth, database, valkey, tmp_path, caplog):
    auth.extra = {"client_endpoint": "https://elsewhere.example/rest/"}
    store = seeded(database, auth)
    source_of(store, valkey.url, tmp_path.name).current("acme")
    assert store.portal("acme").client_endpoint == "https://acme.example/rest/"
    warned = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert [r.endpoint for r in warned] == ["https://elsewhere.example/rest/"]


def test_a_pair_is_stored_as_soon_as_the_database_is_back(auth, database, valkey, tmp_path):
    store = seeded(database, auth)

    def take_the_table_away():
        with contextlib.suppress(sqlalchemy.exc.OperationalError), store.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE portals RENAME TO gone")

    def bring_it_back(_seconds):
        with store.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE gone RENAME TO portals")

    auth.before_answer = take_the_table_away
    source = source_of(store, valkey.url, tmp_path.name, sleep=bring_it_back)
    assert source.current("acme").access == "canary-a1"
    assert store.tokens("acme").refresh == "canary-r1"


def test_a_lock_shorter_than_a_request_is_refused(auth, database, valkey):
    with pytest.raises(errors.ConfigError, match="at least"):
        source_of(seeded(database, auth), valkey.url, "p", lock_seconds=5.0)


def test_an_unsafe_authorization_address_gets_no_secret(auth, database, valkey, tmp_path):
    auth.url = "http://auth.example/oauth/token/"
    with pytest.raises(errors.ConfigError, match="not https"):
        source_of(seeded(database, auth), valkey.url, tmp_path.name).current("acme")
