"""Every link that carries tokens or objects verifies whom it talks to, and tells a stranger nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy.engine import make_url

from b24offline.config import Config
from b24offline.emulator import EmulatorProcess
from b24offline.rest import RestClient
from b24offline.runtime import Runtime
from b24offline.supervisor import EmbeddedValkey, child_environ
from tests.faults import sabotage_links
from tests.support.stack import PORTAL
from tests.support.store_bench import postgres_database
from tests.support.tls import ADDRESS, NAME, Certificate, TlsServer, certificate
from tests.support.up_process import common_variables, portal_variables
from tests.support.waiting import GIVE_UP_SECONDS

SEND = """
import sys
if "off" in sys.argv:
    from tests.faults.sabotage_links import without_verification
    without_verification(setattr)
from b24offline.tasks import app
connection = app.connection_for_write(connect_timeout=10)
connection.connect()
connection.default_channel.queue_declare("b24offline.test.verified", auto_delete=True)
"""
LINKS = ("portal", "token server", "Redis ledger", "Redis broker", "AMQPS", "PostgreSQL", "webhook of issues")


@dataclass
class Site:
    """The servers behind the links, and what is needed to reach them."""

    folder: Path
    emulator: EmulatorProcess
    valkey: EmbeddedValkey
    request: pytest.FixtureRequest

    def variables(self, **more: str) -> dict[str, str]:
        given = {**common_variables(self.folder), **portal_variables(self.emulator, PORTAL)}
        pair = self.emulator.control().issue_token()
        tokens = {"B24_REFRESH_TOKEN": pair["refresh_token"], "TOKEN": pair["access_token"]}
        return {**given, **tokens, "B24_REDIS_URL": self.valkey.url, "B24_AUTH_HOSTS": ADDRESS, **more}

    def server(self, link: str, shown: Certificate, exit_: ExitStack) -> tuple[TlsServer, dict[str, str]]:
        """Return what stands in front of a link's server, and the variables with which we go through it."""
        database = make_url(exit_.enter_context(postgres_database())) if link == "PostgreSQL" else None
        rest, tokens = make_url(self.emulator.rest), make_url(self.emulator.auth_url)
        target = {
            "portal": rest.port,
            "token server": tokens.port,
            "Redis ledger": self.valkey.port,
            "Redis broker": self.valkey.port,
            "AMQPS": self.request.getfixturevalue("rabbit").port if link == "AMQPS" else None,
            "webhook of issues": rest.port,
            "PostgreSQL": database.port or 5432 if database else None,
        }[link]
        server = exit_.enter_context(TlsServer(shown, int(target or 0), postgres=database is not None))
        address = f"{ADDRESS}:{server.port}"
        if database is not None:
            moved = database.set(host=NAME, port=server.port).update_query_dict({"hostaddr": ADDRESS})
            found = {
                "B24_DATABASE_URL": moved.render_as_string(hide_password=False),
                "B24_SECRET_KEY": Fernet.generate_key().decode(),
            }
        else:
            found = {
                "portal": {"B24_PORTAL_URL": f"https://{address}/{rest.database}"},
                "token server": {"B24_AUTH_URL": f"https://{address}/{tokens.database}"},
                "Redis ledger": {"B24_REDIS_URL": f"rediss://{address}/0"},
                "Redis broker": {"CELERY_BROKER_URL": f"rediss://{address}/0"},
                "AMQPS": {"CELERY_BROKER_URL": f"amqps://guest:guest@{address}//"},
                "webhook of issues": {
                    "B24_ISSUE_WEBHOOK_URL": f"https://{address}/issues",
                    "B24_ISSUE_WEBHOOK_SECRET": "a-secret-of-both-sides-0123456789",
                },
            }[link]
        return server, found


@pytest.fixture
def site(tmp_path: Path, valkey: EmbeddedValkey, request: pytest.FixtureRequest) -> Iterator[Site]:
    with EmulatorProcess(objects=1) as emulator:
        yield Site(tmp_path, emulator, valkey, request)


def use(link: str, variables: dict[str, str], *, guarded: bool = True) -> None:
    """Go through a link as the product does. Raise what comes of it."""
    if link in {"Redis broker", "AMQPS"}:
        words = [sys.executable, "-c", SEND, *([] if guarded else ["off"])]
        environ = child_environ(variables)
        subprocess.run(words, env=environ, check=True, capture_output=True, timeout=GIVE_UP_SECONDS)
        return
    runtime = Runtime(Config.load(variables))
    try:
        if link == "PostgreSQL":
            runtime.store.portals.names()
        elif link == "Redis ledger":
            runtime.redis.ping()
        elif runtime.webhook is not None:
            why = runtime.webhook._post(b"{}")
            if not why.startswith("status "):  # what stands behind is no receiver, and says so
                raise ConnectionError(why)
        else:
            portal = runtime.ensure_configured_portal()
            if portal is not None and link == "token server":
                runtime.tokens.refresh(portal.name, "")
            elif portal is not None:
                client = RestClient(portal.name, portal.client_endpoint, runtime.http)
                client.call("server.time", {}, token=variables["TOKEN"])
    finally:
        runtime.close()


def trusting(authority: Certificate) -> dict[str, str]:
    return {"B24_CA_FILE": authority.pem, "B24_SERVICE_CA_FILE": authority.pem}


@pytest.mark.parametrize("link", LINKS)
def test_a_server_with_the_right_certificate_is_used(site: Site, link: str) -> None:
    right = certificate(site.folder / "right")
    with ExitStack() as exit_:
        server, variables = site.server(link, right, exit_)
        use(link, site.variables(**variables, **trusting(right)))
        assert server.said > 0


@pytest.mark.parametrize("shown", ["a stranger's", "another name's", "not an authority's"])
@pytest.mark.parametrize("link", LINKS)
def test_a_stranger_is_told_nothing(site: Site, link: str, shown: str) -> None:
    right, stranger = certificate(site.folder / "right"), certificate(site.folder / "stranger")
    other = certificate(site.folder / "other", "other.example", "127.0.0.2")
    given, trust = {
        "a stranger's": (stranger, trusting(right)),
        "another name's": (other, trusting(other)),
        "not an authority's": (right, {}),
    }[shown]
    with ExitStack() as exit_:
        server, variables = site.server(link, given, exit_)
        with pytest.raises(Exception) as caught:  # noqa: PT011 - each library has its own
            use(link, site.variables(**variables, **trust))
        assert not isinstance(caught.value, AssertionError)
        assert server.said == 0, "a stranger was told something"


@pytest.mark.parametrize("link", LINKS)
def test_a_link_that_verifies_nobody_is_noticed(site: Site, link: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same courses with the guard off: what they ask for is not there by chance."""
    put: Callable[[Any, str, Any], None] = monkeypatch.setattr
    sabotage_links.without_verification(put)
    with ExitStack() as exit_:
        server, variables = site.server(link, certificate(site.folder / "stranger"), exit_)
        use(link, site.variables(**variables), guarded=False)
        assert server.said > 0
