"""`b24offline auth` from the link to the stored pair, with a plain HTTP client as the browser; and its wrong turns."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from b24offline.emulator import Control, EmulatorProcess
from b24offline.store import Cipher, Store
from tests.support.ports import free_port
from tests.support.store_bench import KEY

PATIENCE_SECONDS = 120
COMMAND = (sys.executable, "-m", "b24offline", "auth")
CRM = """
from b24offline.pipeline import fetch, route


@route("ONCRMDEALUPDATE", "ONCALENDARENTRYADD")
def changed(event):
    return fetch.s()
"""


@dataclass
class Newcomer:
    """Somebody who connects the emulated portal from an empty folder."""

    emulator: EmulatorProcess
    folder: Path
    secret: str

    @property
    def portal(self) -> Control:
        return self.emulator.control()

    @property
    def store(self) -> Store:
        return Store(f"sqlite:///{self.folder}/b24offline.db", Cipher((KEY,)))

    @contextmanager
    def auth(self, *more: str, address: str = "", port: int = 0) -> Iterator[subprocess.Popen[str]]:
        """Run the command; its port is the application's address."""
        port = port or free_port()
        self.portal.app(address=f"http://127.0.0.1:{port}/")
        (self.folder / "secret").write_text(self.secret)
        (self.folder / "chains.py").write_text(CRM)
        own = ("--client-id", self.emulator.client_id, "--client-secret-file", "secret")
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "b24offline",
                "auth",
                address or self.emulator.url,
                "--port",
                str(port),
                *own,
                *more,
            ],
            cwd=self.folder,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("B24")},
                "B24_DATA_DIR": str(self.folder),
                "B24_LOOPBACK_HTTP": "true",
                "B24_SECRET_KEY": KEY,
                "B24_AUTH_URL": self.emulator.auth_url,
                "B24_REDIS_URL": "redis://127.0.0.1:1/0",
                "B24_PIPELINES": "chains",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def ends(self, process: subprocess.Popen[str], pasted: str = "") -> tuple[int, str]:
        """Paste, wait for the end; return exit status and everything it said since."""
        said, _ = process.communicate(pasted, timeout=PATIENCE_SECONDS)
        return process.returncode, said


def link_of(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return the link, and what was said up to the wait for the browser."""
    said = ""
    for line in process.stdout:
        said += line
        if "the browser" in line and (link := re.search(r"^  (http\S+)$", said, re.MULTILINE)):
            return link[1], said
    raise AssertionError(f"no link: {said}")


def allowed(link: str, **more: Any) -> requests.Response:
    """Log in and allow, as a person would; the browser is sent on."""
    assert "asks for access to" in requests.get(link, timeout=PATIENCE_SECONDS).text
    return requests.post(link, data={"answer": "allow"}, timeout=PATIENCE_SECONDS, **more)


def pasted_after_allowing(link: str) -> str:
    return allowed(link, allow_redirects=False).headers["Location"] + "\n"


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorProcess]:
    with EmulatorProcess(portals=("acme",)) as process:
        yield process


@pytest.fixture
def newcomer(emulator: EmulatorProcess, tmp_path: Path) -> Iterator[Newcomer]:
    yield Newcomer(emulator, tmp_path, emulator.client_secret)
    emulator.control().user(admin=True)
    emulator.control().licence(rest_offline_extended=True, commercial=True)
    emulator.control().app(installed=True, removed=False)


def test_a_browser_on_this_machine_connects_a_portal(newcomer: Newcomer) -> None:
    with newcomer.auth("--name", "acme") as process:
        link, said = link_of(process)
        page = allowed(link)
        code, more = newcomer.ends(process)
    assert (code, "The terminal shows the result" in page.text) == (0, True), more
    assert "access    calendar, crm\n" in said
    assert "lacks calendar" in more
    assert "Portal acme was added" in more
    portal, pair = newcomer.store.portals.get("acme"), newcomer.store.tokens.get("acme")
    assert (portal.client_endpoint, bool(portal.member_id)) == (newcomer.emulator.rest, True)
    assert (bool(pair.access), pair.refresh) == (True, newcomer.portal.issue_token()["refresh_token"])


def test_a_pasted_address_renews_a_lost_authorization(newcomer: Newcomer) -> None:
    for number in range(2):
        with newcomer.auth() as process:
            link, _ = link_of(process)
            code, said = newcomer.ends(process, "https://elsewhere.example/?x=1\n\n" + pasted_after_allowing(link))
        assert (code, "it has no code=... in it" in said) == (0, True), said
        assert ("was added", "has new tokens")[number] in said
        newcomer.store.tokens.refuse_refresh("127.0.0.1-" + newcomer.emulator.url[-5:].strip(":"), 1, "x", actor="y")
    (portal,) = newcomer.store.portals.list()
    assert (portal.state, portal.token_version) == ("active", 2)


def _late(newcomer: Newcomer) -> None:
    newcomer.portal.clock(advance_seconds=31)


def _nothing(newcomer: Newcomer) -> None:
    del newcomer


@pytest.mark.parametrize(
    ("before", "between", "sentence"),
    [
        pytest.param(lambda n: setattr(n, "secret", "wrong"), _nothing, "wrong client id", id="secret"),
        pytest.param(_nothing, _late, "the code is older than 30 s", id="expired code"),
        pytest.param(_nothing, lambda n: n.portal.user(admin=False), "not an administrator", id="no administrator"),
        pytest.param(
            _nothing,
            lambda n: n.portal.licence(rest_offline_extended=False),
            "plan does not include rest_offline_extended",
            id="plan",
        ),
        pytest.param(_nothing, lambda n: n.portal.licence(commercial=False), "payment required", id="not paid"),
        pytest.param(_nothing, lambda n: n.portal.app(installed=False), "is not finished", id="not installed"),
    ],
)
def test_a_wrong_turn_has_its_sentence_and_stores_nothing(newcomer: Newcomer, before, between, sentence) -> None:
    before(newcomer)
    with newcomer.auth() as process:
        link, _ = link_of(process)
        pasted = pasted_after_allowing(link)
        between(newcomer)
        code, said = newcomer.ends(process, pasted)
    assert (code, sentence in said) == (1, True), said
    assert "Traceback" not in said
    assert not newcomer.store.portals.list()


def test_another_portals_authorization_is_refused(newcomer: Newcomer) -> None:
    with newcomer.auth() as process:
        link, _ = link_of(process)
        other = link.replace("/oauth/", "/portals/acme/oauth/")
        code, said = newcomer.ends(process, pasted_after_allowing(other))
    # The emulator's portals share a host; on real ones it is the host that differs.
    assert (code, "authorized on" in said) == (1, True), said


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("https://acme.bitrix24.com/rest/1/abcdef123/",), "is the address of a webhook"),
        (("http://acme.bitrix24.com",), "must begin with https://"),
    ],
)
def test_an_address_that_cannot_be_is_refused_at_once(newcomer: Newcomer, more, sentence) -> None:
    with newcomer.auth(address=more[0]) as process:
        code, said = newcomer.ends(process)
    assert (code, sentence in said) == (2, True), said


def test_a_forged_redirect_is_not_taken(newcomer: Newcomer) -> None:
    port = free_port()
    with newcomer.auth(port=port) as process:
        link_of(process)
        forged = requests.get(f"http://127.0.0.1:{port}/?code=x&state=y", timeout=PATIENCE_SECONDS)
        lost = requests.get(f"http://127.0.0.1:{port}/favicon.ico", timeout=PATIENCE_SECONDS)
        assert (forged.status_code, lost.status_code, process.poll()) == (400, 404, None)
