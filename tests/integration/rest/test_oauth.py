"""Token refresh against a small authorization server, by many processes at once."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy
from werkzeug.wrappers import Request, Response

from b24offline import errors
from b24offline.events import ObservedState, Tokens
from b24offline.rest import Http, TokenSource, make_session, oauth
from b24offline.store import Cipher, Store
from tests.support.ports import free_port
from tests.support.served import served
from tests.support.store_bench import bind_member, pass_time

KEY = "A" * 43 + "="  # the same in every process


class AuthServer:
    """Exchanges refresh tokens for pairs; an old refresh token is invalid at once."""

    def __init__(self):
        self.lock = threading.Lock()
        self.valid = "canary-r0"
        self.issued = 0
        self.asked = []
        self.answer = None
        self.extra = {}
        self.delay_seconds = 0.0
        self.answers_anything = False
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
        if not self.answers_anything and query["refresh_token"] != self.valid:
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


@pytest.fixture
def database(tmp_path):
    return f"sqlite:///{tmp_path}/b24.db"


def opened(database, **options):
    store = Store(database, Cipher([KEY]), **options)
    store.create_schema()
    return store


def seeded(database, auth, refresh_token="canary-r0"):
    store = opened(database)
    seed(store, auth, refresh_token=refresh_token)
    return store


def seed(store, auth, name="acme", connector="c", refresh_token="canary-r0"):
    store.portals.seed(
        name,
        client_endpoint="https://acme.example/rest/",
        auth_url=auth.url,
        client_id="app.1",
        client_secret="canary-secret",
        connector=connector,
        refresh_token=refresh_token,
    )


def source_of(store, **options):
    return TokenSource(store.tokens, Http(make_session(), 5.0, 20.0, 1 << 22, loopback_http=True), **options)


def test_the_first_use_refreshes_and_stores_before_it_returns(auth, database, caplog):
    caplog.set_level(logging.DEBUG)
    store = seeded(database, auth)
    tokens = source_of(store).current("acme")
    assert (tokens.access, tokens.refresh) == ("canary-a1", "canary-r1")
    assert opened(database).tokens.get("acme") == tokens
    assert store.portals.get("acme").member_id == "m1"
    assert auth.asked == [
        {
            "grant_type": "refresh_token",
            "client_id": "app.1",
            "client_secret": "canary-secret",
            "refresh_token": "canary-r0",
        }
    ]
    assert "canary" not in caplog.text


def test_a_pair_in_the_store_is_used_as_it_is(auth, database):
    source = source_of(seeded(database, auth))
    first = source.current("acme")
    assert source.current("acme") == first
    assert source_of(opened(database)).current("acme") == first
    assert auth.issued == 1


def test_a_refresh_of_another_process_is_noticed_without_asking(auth, database):
    mine = source_of(seeded(database, auth))
    theirs = source_of(opened(database))
    stale = mine.current("acme").access
    newer = theirs.refresh("acme", stale)
    assert mine.refresh("acme", stale) == newer == mine.current("acme")
    assert auth.issued == 2
    assert mine.refresh("acme", newer.access).access == "canary-a3"


def refresh_in_process(barrier, results, database):
    oauth._PATIENCE_SECONDS = 60.0  # of a loaded machine
    source = source_of(opened(database))
    stale = source.current("acme").access
    barrier.wait()
    results.put((stale, source.refresh("acme", stale).access))


def test_of_eight_processes_one_refreshes(auth, database):
    store = seeded(database, auth)
    source_of(store).current("acme")
    auth.delay_seconds = 0.3
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(8), context.Queue()
    arguments = (barrier, results, database)
    processes = [context.Process(target=refresh_in_process, args=arguments, daemon=True) for _ in range(8)]
    for process in processes:
        process.start()
    seen = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 8
    assert seen == [("canary-a1", "canary-a2")] * 8
    assert len(auth.asked) == 2
    assert store.tokens.get("acme").refresh == auth.valid


def test_threads_of_one_process_share_a_refresh(auth, database):
    source = source_of(seeded(database, auth))
    stale = source.current("acme").access
    auth.delay_seconds = 0.1
    with ThreadPoolExecutor(12) as pool:
        seen = set(pool.map(lambda _: source.refresh("acme", stale).access, range(12)))
    assert seen == {"canary-a2"}
    assert len(auth.asked) == 2


def test_a_process_without_the_claim_waits_for_the_new_pair(auth, database):
    store = seeded(database, auth)
    source = source_of(store)
    stale = source.current("acme").access
    assert store.tokens.claim_refresh("acme", store.tokens.get("acme").version, 30)
    waits = []

    def other_process_finishes(seconds):
        waits.append(seconds)
        version = store.tokens.get("acme").version
        store.tokens.save("acme", Tokens("canary-other", "canary-r", version + 1), version)

    waiting = source_of(store, sleep=other_process_finishes)
    assert waiting.refresh("acme", stale).access == "canary-other"
    assert (len(waits), auth.issued) == (1, 1)


@pytest.mark.parametrize("off_seconds", [-3600, -60, 60, 3600])
def test_a_wrong_worker_clock_allows_no_second_refresh(auth, database, monkeypatch, off_seconds):
    monkeypatch.setattr(oauth, "_PATIENCE_SECONDS", 0.2)
    source = source_of(seeded(database, auth))
    stale = source.current("acme").access
    wrong = opened(database, clock=lambda: time.time() + off_seconds)
    version = wrong.tokens.get("acme").version
    assert wrong.tokens.claim_refresh("acme", version, 30)
    assert not wrong.tokens.claim_refresh("acme", version, 30)
    for waiting in (source, source_of(wrong)):
        with pytest.raises(errors.RateLimited) as caught:
            waiting.refresh("acme", stale)
        assert 20 < caught.value.wait_seconds <= 30
    assert len(auth.asked) == 1


def test_200_threads_at_20_portals_make_20_refreshes(auth, database, monkeypatch):
    monkeypatch.setattr(oauth, "_PATIENCE_SECONDS", 120.0)  # how long a slow machine needs for them all
    store, names = opened(database), [f"p{number:02d}" for number in range(20)]
    for name in names:
        seed(store, auth, name=name, connector=name)
    auth.answers_anything = True
    auth.delay_seconds = 0.3
    source = source_of(store)
    with ThreadPoolExecutor(200) as pool:
        seen = list(pool.map(lambda number: source.refresh(names[number % 20], "").access, range(200)))
    assert len(auth.asked) == len(set(seen)) == 20
    assert {store.tokens.get(name).access for name in names} == set(seen)


def test_a_lost_grant_sets_the_state_and_is_not_tried_again(auth, database, caplog):
    store = seeded(database, auth, refresh_token="canary-dead")
    source = source_of(store)
    for _ in range(3):
        with pytest.raises(errors.AuthLost, match="Authorize the application again") as caught:
            source.current("acme")
    assert len(auth.asked) == 1
    portal = store.portals.get("acme")
    assert portal.state is ObservedState.AUTH_LOST
    assert "(HTTP 400, invalid_grant, no ***). Authorize the application again" in portal.state_reason
    (reply,) = [r for r in caplog.records if r.message == "authorization lost"]
    assert (reply.why, portal.state_actor) == (portal.state_reason, "portal administrator")
    assert "canary" not in f"{caught.value}{caught.value.args}{caplog.text}"
    seeded(database, auth, refresh_token="canary-r0")
    assert source.current("acme").access == "canary-a1"
    assert store.portals.get("acme").state is ObservedState.ACTIVE


def test_a_lost_grant_of_an_older_pair_changes_nothing(auth, database):
    store = seeded(database, auth, refresh_token="canary-dead")

    def authorize():
        auth.before_answer = lambda: None
        store.tokens.authorize("acme", "canary-r0")

    auth.before_answer = authorize
    assert source_of(store).current("acme").access == "canary-a1"
    assert store.portals.get("acme").state is ObservedState.ACTIVE


def test_a_pair_older_than_a_new_authorization_is_dropped(auth, database):
    store = seeded(database, auth)
    source = source_of(store)
    stale = source.current("acme").access

    def authorize():
        store.tokens.authorize("acme", "canary-new")
        auth.answer, auth.valid = auth.pair(auth.asked[-1]), "canary-new"
        auth.before_answer = lambda: setattr(auth, "answer", None)

    auth.before_answer = authorize
    assert source.refresh("acme", stale).access == "canary-a3"
    assert [query["refresh_token"] for query in auth.asked] == ["canary-r0", "canary-r1", "canary-new"]
    assert store.tokens.get("acme") == source.current("acme")


def test_another_account_after_a_new_authorization_changes_nothing(auth, database):
    store = seeded(database, auth)
    bind_member(store, "acme", "m1")
    auth.extra = {"member_id": "m2"}

    def authorize():
        store.tokens.authorize("acme", "canary-r1")
        auth.before_answer = lambda: auth.extra.update(member_id="m1")

    auth.before_answer = authorize
    assert source_of(store).current("acme").access == "canary-a2"
    assert store.portals.get("acme").state is ObservedState.ACTIVE


def test_without_a_refresh_token_nothing_is_asked(auth, database):
    store = seeded(database, auth, refresh_token=None)
    with pytest.raises(errors.AuthLost):
        source_of(store).current("acme")
    assert auth.asked == []
    assert store.portals.get("acme").state is ObservedState.AUTH_LOST


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
def test_a_failed_refresh_keeps_the_pair_and_waits(auth, database, status, content, kind):
    store = seeded(database, auth)
    source = source_of(store)
    stale = source.current("acme").access
    auth.answer = (status, content)
    with pytest.raises(kind):
        source.refresh("acme", stale)
    with pytest.raises(errors.RateLimited) as caught:
        source.refresh("acme", stale)
    assert 0 < caught.value.wait_seconds <= 15
    assert len(auth.asked) == 2
    assert (store.tokens.get("acme").access, store.portals.get("acme").state) == (stale, ObservedState.ACTIVE)
    auth.answer = None
    pass_time(store, 16)
    assert source.refresh("acme", stale).access == "canary-a2"


def test_an_unreachable_authorization_server_changes_nothing(auth, database):
    auth.url = f"http://127.0.0.1:{free_port()}/oauth/token/"
    store = seeded(database, auth)
    with pytest.raises(errors.AuthServerUnavailable) as caught:
        source_of(store).current("acme")
    assert "canary" not in f"{caught.value}{caught.value.args}"
    assert store.tokens.get("acme").refresh == "canary-r0"


def test_another_account_is_refused_and_its_pair_not_stored(auth, database, caplog):
    store = seeded(database, auth)
    bind_member(store, "acme", "m2")
    with pytest.raises(errors.MemberMismatch, match="m2, but m1"):
        source_of(store).current("acme")
    assert store.tokens.get("acme").refresh == "canary-r0"
    portal = store.portals.get("acme")
    assert (portal.state, portal.state_actor) == (ObservedState.AUTH_LOST, "operator")
    assert [r.why for r in caplog.records if r.levelno == logging.ERROR] == [portal.state_reason]


@pytest.mark.parametrize("member", [{"member_id": None}, {"member_id": ""}, {"member_id": 5}])
def test_a_reply_without_a_member_id_is_accepted(auth, database, member):
    auth.extra = {**member, "client_endpoint": None}
    store = seeded(database, auth)
    tokens = source_of(store).current("acme")
    assert tokens.access == "canary-a1"
    assert store.portals.get("acme").member_id is None


def test_a_pair_is_stored_as_soon_as_the_database_is_back(auth, database):
    store = seeded(database, auth)

    def take_the_table_away():
        with contextlib.suppress(sqlalchemy.exc.OperationalError), store.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE portals RENAME TO gone")

    def bring_it_back(_seconds):
        with store.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE gone RENAME TO portals")

    auth.before_answer = take_the_table_away
    source = source_of(store, sleep=bring_it_back)
    assert source.current("acme").access == "canary-a1"
    assert store.tokens.get("acme").refresh == "canary-r1"


def test_an_unsafe_authorization_address_gets_no_secret(auth, database):
    auth.url = "http://auth.example/oauth/token/"
    with pytest.raises(errors.ConfigError, match="must begin with https"):
        source_of(seeded(database, auth)).current("acme")
