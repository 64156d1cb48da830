"""The audit log: a line for each changing command, without secrets."""

from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner

from b24offline.cli import main
from b24offline.cli.audited import Audited
from b24offline.cli.main import COMMANDS

READ_ONLY = {"up", "audit", "doctor", "events", "metrics", "push", "status", "new", "portal list", "portal show"}
READ_ONLY |= {"dead-letter list", "dead-letter show"}
SECRET = "canary-of-a-secret"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("B24_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("B24_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("LOGNAME", "olga")
    (tmp_path / "secret").write_text(SECRET)

    def call(*words, code=0):
        reply = CliRunner().invoke(main, words)
        assert reply.exit_code == code, reply.output
        return reply.stdout

    return call


def leaves(command, path=""):
    if isinstance(command, click.Group):
        for name, child in getattr(command, "commands", {}).items():
            yield from leaves(child, f"{path} {name}".strip())
    else:
        yield path, command


def test_every_command_that_changes_something_is_audited():
    found = {}
    for name in COMMANDS:
        found.update(leaves(main.get_command(click.Context(main), name), name))
    assert {name for name, command in found.items() if not isinstance(command, Audited)} == READ_ONLY


def test_who_did_what_when_and_where_is_listed_without_secrets(run, tmp_path):
    files = ("--client-secret-file", str(tmp_path / "secret"), "--refresh-token-file", str(tmp_path / "secret"))
    run("portal", "add", "acme", "--url", "https://acme.bitrix24.com/rest/", "--client-id", "app.1", *files)
    run("portal", "pause", "acme")
    run("portal", "pause", "globex", code=2)
    run("portal", "set-url", "acme", "--url", f"https://new.bitrix24.com/rest/1/{SECRET}/", code=2)
    run("dead-letter", "drop", "--all", "--dry-run")
    lines = json.loads(run("audit", "--json"))
    shown = "--client-secret-file FILE --refresh-token-file FILE"
    assert [(line["portal"], line["command"], line["outcome"]) for line in lines] == [
        (
            "acme",
            f"portal add acme --url acme.bitrix24.com --client-id app.1 {shown}",
            "begun",
        ),
        ("acme", "portal pause acme", "begun"),
        ("globex", "portal pause globex", "begun"),
        ("globex", "portal pause globex", "not done: UnknownPortal"),
        ("acme", "portal set-url acme --url new.bitrix24.com", "begun"),
        ("acme", "portal set-url acme --url new.bitrix24.com", "not done: Refusal"),
    ]
    assert all(line["who"].startswith("olga@") and line["at"] for line in lines)
    shown = run("audit", "--portal", "globex", "--limit", "1").splitlines()
    assert (len(shown), shown[1].split()[-2:]) == (2, ["done:", "UnknownPortal"])


def test_a_command_without_its_line_does_nothing(run, monkeypatch, tmp_path):
    monkeypatch.setenv("B24_DATABASE_URL", "postgresql://user@127.0.0.1:1/db")
    monkeypatch.setenv("B24_SECRET_KEY", "A" * 43 + "=")
    run("ledger", "reset", "--yes", code=1)
