"""`b24offline portal authorize`: a token is asked about before it takes the place of the one in the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from b24offline.cli import main
from b24offline.cli.output import load_runtime
from b24offline.emulator import EmulatorProcess
from b24offline.store import Store
from tests.support.ports import free_port
from tests.support.store_bench import KEY


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorProcess]:
    with EmulatorProcess(portals=("acme", "zeta")) as process:
        yield process


@pytest.fixture
def store(emulator: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    for name, value in {
        "B24_DATA_DIR": str(tmp_path),
        "B24_SECRET_KEY": KEY,
        "B24_LOOPBACK_HTTP": "true",
        "B24_REDIS_URL": "redis://127.0.0.1:1/0",
    }.items():
        monkeypatch.setenv(name, value)
    store = load_runtime().store
    for name in ("acme", "zeta"):
        store.portals.add(
            name,
            client_endpoint=emulator.hello["portals"][name]["client_endpoint"],
            auth_url=emulator.auth_url,
            client_id=emulator.client_id,
            client_secret=emulator.client_secret,
            connector="b24offline",
            refresh_token="before",
        )
    return store


def authorized(token: str) -> tuple[int, str]:
    command = ["portal", "authorize", "acme", "--refresh-token-file", "-"]
    done = CliRunner().invoke(main, command, input=token)
    assert token not in done.output
    return done.exit_code, done.output


def test_a_good_token_is_exchanged_and_the_new_one_stored(store: Store, emulator: EmulatorProcess) -> None:
    token = emulator.control("acme").issue_token()["refresh_token"]
    assert authorized(token) == (0, "The new refresh token of portal acme is stored. The next call uses it.\n")
    kept = store.tokens.get("acme")
    assert kept.refresh not in {"before", token}
    assert kept.access == "", "the next call could not see whether the portal has moved"


def test_a_token_that_is_refused_replaces_nothing(store: Store) -> None:
    status, said = authorized("dead-token")
    assert status == 1
    assert "authorization is lost" in said
    assert "Nothing was changed" in said
    assert store.tokens.get("acme").refresh == "before"


def test_the_token_of_another_portal_is_refused(store: Store, emulator: EmulatorProcess) -> None:
    assert authorized(emulator.control("acme").issue_token()["refresh_token"])[0] == 0
    status, said = authorized(emulator.control("zeta").issue_token()["refresh_token"])
    assert status == 2
    assert "is recorded as the Bitrix24 account" in said


def test_a_wrong_client_secret_is_named(store: Store, emulator: EmulatorProcess) -> None:
    store.portals.set_client_secret(emulator.client_id, "another")
    status, said = authorized(emulator.control("acme").issue_token()["refresh_token"])
    assert status == 1
    assert "wrong client id or client secret" in said


def test_where_no_server_answers_the_token_is_stored_unchecked(
    store: Store,
) -> None:
    away = f"http://127.0.0.1:{free_port()}/oauth/token/"
    about = store.portals.get("acme")
    store.portals.seed(
        "acme",
        client_endpoint=about.client_endpoint,
        auth_url=away,
        client_id=about.client_id,
        client_secret=about.client_secret,
        connector=about.connector,
    )
    status, said = authorized("perhaps-good")
    assert (status, store.tokens.get("acme").refresh) == (0, "perhaps-good"), said
    assert "It was not checked" in said


def test_a_removed_portal_gets_no_token(store: Store, emulator: EmulatorProcess) -> None:
    store.portals.remove("acme")
    status, said = authorized(emulator.control("acme").issue_token()["refresh_token"])
    assert status == 2
    assert "was removed" in said
