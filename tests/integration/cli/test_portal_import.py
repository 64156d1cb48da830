"""Portals from JSON lines: added in one go, a wrong line named, the same file harmless a second time."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from b24offline.cli import main
from b24offline.store import Cipher, Store
from tests.support.store_bench import KEY

SECRET = "canary-of-a-secret"


@pytest.fixture
def store(tmp_path, monkeypatch):
    for name, value in {
        "B24_DATA_DIR": str(tmp_path),
        "B24_SECRET_KEY": KEY,
        "B24_REDIS_URL": "redis://127.0.0.1:1/0",
        "B24_CLIENT_ID": "app.1",
        "B24_CLIENT_SECRET": SECRET,
    }.items():
        monkeypatch.setenv(name, value)
    return Store(f"sqlite:///{tmp_path}/b24offline.db", Cipher((KEY,)))


def line(host: str, **more: str) -> str:
    return json.dumps({"url": f"https://{host}.bitrix24.com/rest/", "refresh_token": f"{SECRET}-{host}", **more})


def imported(*lines: str) -> tuple[int, str]:
    reply = CliRunner().invoke(main, ["portal", "import", "-"], input="\n".join(lines))
    assert SECRET not in reply.output
    return reply.exit_code, reply.output


def test_lines_become_portals_and_a_second_import_changes_nothing(store):
    lines = (line("acme", name="acme", access_token="at", connector="own"), "", line("globex"))
    assert imported(*lines) == (0, "2 added.\n")
    acme, globex = store.portals.list()
    assert (acme.name, acme.connector, acme.client_secret, globex.name) == (
        "acme",
        "own",
        SECRET,
        "globex.bitrix24.com",
    )
    assert [store.tokens.get(name).access for name in ("acme", globex.name)] == ["at", ""]
    assert imported(*lines) == (0, "2 already stored.\n")
    assert store.tokens.get("acme").version == 1


def test_a_lost_authorization_takes_the_new_token(store):
    imported(line("acme", name="acme"))
    store.tokens.refuse_refresh("acme", 1, "dead", actor="operator")
    assert imported(line("acme", name="acme", refresh_token="new")) == (0, "1 authorized again.\n")
    assert (store.portals.get("acme").state, store.tokens.get("acme").refresh) == ("active", "new")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("{", "it is not JSON."),
        ('["acme"]', "it is not a JSON object whose values are texts."),
        ('{"url": "https://a.bitrix24.com/rest/"}', "refresh_token missing."),
        (line("a", token="x"), "unknown: 'token'; known are url, auth_url, name"),
        (line("a", url="https://a.bitrix24.com/rest/1/abc/"), "url is the address of an incoming webhook"),
        (line("other", name="acme"), "acme: the name belongs to another portal"),
        (line("acme", name="second"), "second: the portal is stored under another name"),
    ],
)
def test_a_wrong_line_is_named_and_the_others_go_on(store, wrong, words):
    imported(line("acme", name="acme"))
    code, said = imported(wrong, line("globex"))
    assert (code, f"Line 1: {words}" in said, "1 added.\n" in said) == (1, True, True), said
    assert "Error: 1 of 2 lines were not imported.\n" in said
    assert len(store.portals.names()) == 2


def test_a_database_that_is_away_ends_the_import(store, monkeypatch):
    monkeypatch.setenv("B24_DATABASE_URL", "postgresql://user@127.0.0.1:1/db")
    code, said = imported(line("acme"))
    assert (code, "cannot be used" in said) == (1, True), said
