"""Twenty portals added, paused, drained, moved, authorized again and removed while everything runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from b24offline import keys
from b24offline.cli import main
from b24offline.config import Config
from b24offline.emulator import Control, EmulatorProcess
from b24offline.events import DesiredState, ObservedState
from b24offline.runtime import Runtime
from b24offline.supervisor import with_ledger_address
from demo.comparison import compare
from tests.support.up_process import Up, common_variables
from tests.support.waiting import wait_until

COUNT = 20


@dataclass
class Many:
    """A deployment without a configured portal, and an emulator with twenty."""

    up: Up
    emulator: EmulatorProcess
    runtime: Runtime
    folder: Path

    def cli(self, *command: str, status: int = 0) -> Result:
        """Run a command in this process, in the deployment's environment only."""
        cleared = {name: None for name in os.environ if name.startswith(("B24_", "CELERY_"))}
        done = CliRunner().invoke(main, command, env={**cleared, **self.up.variables})
        assert done.exit_code == status, done.output
        return done

    def control(self, name: str) -> Control:
        """Return the control client of a portal."""
        return self.emulator.control(name)

    def add(self, name: str, *, status: int = 0, url: str = "") -> Result:
        """Add a portal of the emulator."""
        about = self.emulator.hello["portals"][name]
        return self.cli(
            *("portal", "add", name, "--url", url or about["client_endpoint"], "--auth-url", self.emulator.auth_url),
            *("--client-id", self.emulator.client_id),
            *("--client-secret-file", self.secret("client", self.emulator.client_secret)),
            *("--refresh-token-file", self.secret(name, about["refresh_token"])),
            status=status,
        )

    def secret(self, name: str, value: str) -> str:
        """Return a file that holds a secret."""
        path = self.folder / f"{name}.secret"
        path.write_text(value + "\n")
        return str(path)

    def mirrored(self, name: str) -> bool:
        """Return whether the portal's queue is empty and its changes are in the mirror."""
        control = self.control(name)
        if control.state()["records"]:
            return False
        found = compare(control.objects(since_changes=True), self.runtime.mirror.rows(name))
        return found.equal and found.compared > 0

    def calls(self, name: str, method: str = "event.offline.get") -> int:
        """Return how often the method was called."""
        return sum(call["method"] == method for call in self.control(name).requests())


NAMES = ["default", *(f"p{number:02}" for number in range(1, COUNT))]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Many]:
    """Everything runs, no portal is known yet."""
    folder = tmp_path_factory.mktemp("many")
    with EmulatorProcess(objects=12, portals=NAMES[1:]) as emulator:
        variables = common_variables(folder) | {"B24_POLL_INTERVAL_MAX_SECONDS": "3"}
        up = Up(folder, variables)
        try:
            up.start()
            runtime = Runtime(with_ledger_address(Config.load(up.variables)))
            yield Many(up, emulator, runtime, folder)
        finally:
            up.close()


def test_without_a_portal_it_says_how_to_add_one(many: Many) -> None:
    assert "No portal is configured yet" in many.up.log()
    assert "b24offline auth" in many.up.log()
    wait_until(
        lambda: "no portal to serve: connect one with b24offline auth" in many.up.log(), "a tick says it as well"
    )
    assert "No portals." in many.cli("status").output


def test_twenty_portals_added_while_running_are_served(many: Many) -> None:
    for name in NAMES:
        many.add(name)
    wait_until(lambda: all(many.control(name).state()["bindings"] for name in NAMES), "all are bound")
    for name in NAMES:
        many.control(name).change("crm_deal", "update", count=2)
        many.control(name).change("task", "add", count=1)
    wait_until(lambda: all(many.mirrored(name) for name in NAMES), "all are mirrored")
    listed = json.loads(many.cli("portal", "list", "--json").output)
    assert [row["name"] for row in listed] == NAMES
    assert {row["state"] for row in listed} == {"active"}
    secrets = [many.emulator.client_secret, *(str(many.runtime.store.tokens.get(name).access) for name in NAMES)]
    shown = many.cli("portal", "list").output + many.cli("portal", "show", "p01").output + many.cli("status").output
    assert "p19" in shown
    assert not any(secret in shown + many.up.log() for secret in secrets)


def test_a_paused_portal_is_not_polled_until_resumed(many: Many) -> None:
    many.cli("portal", "pause", "p01")
    control = many.control("p01")
    wait_until(lambda: "p01" not in many.runtime.redis.zrange(keys.polls("b24offline"), 0, -1), "a tick has seen it")
    wait_until(
        lambda: many.runtime.services("p01").portal.desired_state is DesiredState.PAUSED, "this process knows it"
    )
    polls = many.calls("p01")
    control.change("crm_deal", "update", count=3)
    control.marks(count=1)
    others = many.calls("p02")
    wait_until(lambda: many.calls("p02") >= others + 3, "others are polled on")
    assert many.calls("p01") - polls <= 1, "at most one poll was under way"
    assert many.runtime.store.portals.get("p01").desired_state is DesiredState.PAUSED, "no successful call ends a pause"
    many.cli("portal", "resume", "p01")
    wait_until(lambda: many.mirrored("p01"), "it is served again")


def test_a_drained_portal_settles_and_pauses_and_is_removed(many: Many) -> None:
    refused = many.cli("portal", "remove", "p02", status=2)
    assert "portal drain p02 --wait" in refused.output
    control = many.control("p02")
    control.change("crm_deal", "update", count=3)
    done = many.cli("portal", "drain", "p02", "--wait", "--timeout", "240")
    assert "drained and paused" in done.output
    assert many.runtime.store.portals.get("p02").desired_state is DesiredState.PAUSED
    assert not many.runtime.services("p02").ledger.open_batches()
    assert control.state()["bindings"]
    removed = many.cli("portal", "remove", "p02", "--yes")
    assert "subscriptions were ended" in removed.output
    assert not control.state()["bindings"]
    assert many.runtime.store.tokens.get("p02").refresh == ""
    assert not many.runtime.redis.keys(keys.pattern(keys.stem("b24offline", "p02")))
    assert "p02" not in many.cli("portal", "list").output
    assert "removed" in many.cli("portal", "list", "--all").output
    left = control.state()["records"]
    control.change("crm_company", "update", count=1)
    assert control.state()["records"] == left, "its queue does not grow"


def test_a_removed_portal_comes_back_only_when_added_again(many: Many) -> None:
    for command in (("resume", "p02"), ("pause", "p02"), ("set-url", "p02", "--url", "https://a.example/rest/")):
        assert "was removed" in many.cli("portal", *command, status=2).output
    about = many.emulator.hello["portals"]["p02"]
    about["refresh_token"] = many.control("p02").issue_token()["refresh_token"]
    many.add("p02")
    wait_until(lambda: many.control("p02").state()["bindings"], "it is bound again")
    many.control("p02").change("crm_company", "update", count=2)
    wait_until(lambda: many.mirrored("p02"), "it is served again")


def test_an_unreachable_portal_is_removed_by_force_only(many: Many) -> None:
    many.cli("portal", "drain", "p03", "--wait", "--timeout", "240")
    many.control("p03").fault("*", "error", code="ACCESS_DENIED", status=403)
    refused = many.cli("portal", "remove", "p03", "--yes", status=2)
    assert "still subscribed" in refused.output
    assert "--force" in refused.output
    assert many.runtime.store.portals.get("p03").desired_state is DesiredState.PAUSED
    forced = many.cli("portal", "remove", "p03", "--force", "--yes")
    assert "still subscribed" in forced.output
    assert many.runtime.store.portals.get("p03").desired_state is DesiredState.REMOVED
    many.control("p03").disarm()


def test_a_lost_authorization_needs_no_restart(many: Many) -> None:
    control = many.control("p04")
    control.app(removed=True)
    wait_until(lambda: many.runtime.store.portals.get("p04").state is ObservedState.AUTH_LOST, "it is noticed")
    reply = many.cli("status", status=1).output
    assert "p04: the portal administrator must act" in reply
    control.app(removed=False)
    token = many.secret("p04", control.issue_token()["refresh_token"])
    many.cli("portal", "authorize", "p04", "--refresh-token-file", token)
    wait_until(lambda: control.state()["bindings"], "the events are bound again")
    control.change("crm_deal", "update", count=1)
    wait_until(lambda: many.mirrored("p04"), "it is served again")
    assert many.runtime.store.portals.get("p04").state is ObservedState.ACTIVE


def test_a_new_client_secret_needs_no_restart(many: Many) -> None:
    control, application = many.control("p08"), ("--client-id", many.emulator.client_id)

    def reply(secret: str) -> str:
        return many.cli(
            "portal", "rotate-secret", *application, "--client-secret-file", many.secret("new", secret)
        ).output

    assert "p08" in reply("another")
    control.expire_tokens()
    wait_until(lambda: many.runtime.store.portals.get("p08").state is ObservedState.PAUSED, "the old pair is refused")
    assert "the operator must act" in many.cli("status", status=1).output
    assert "p08" in reply(many.emulator.client_secret)
    control.change("crm_deal", "update", count=1)
    wait_until(lambda: many.mirrored("p08"), "it is served again")
    nobody = ("--client-id", "local.nobody", "--client-secret-file", many.secret("new", "x"))
    assert "No portal uses the application" in many.cli("portal", "rotate-secret", *nobody, status=2).output


def test_the_keys_of_the_store_are_changed(many: Many) -> None:
    assert "encrypted with the first key" in many.cli("db", "reencrypt").output
    assert many.runtime.store.portals.get("p09").client_secret == many.emulator.client_secret


def test_a_moved_portal_is_called_at_its_new_address(many: Many) -> None:
    right, wrong = (many.emulator.hello["portals"][name]["client_endpoint"] for name in ("p05", "p06"))
    many.cli("portal", "set-url", "p05", "--url", wrong)
    was = many.calls("p05")
    wait_until(lambda: many.runtime.store.portals.get("p05").client_endpoint == wrong, "it is stored")
    wait_until(
        lambda: many.runtime.store.portals.get("p05").state is not ObservedState.ACTIVE, "the other portal refuses it"
    )
    assert many.calls("p05") - was <= 1
    many.cli("portal", "set-url", "p05", "--url", right)
    token = many.secret("p05", many.control("p05").issue_token()["refresh_token"])
    many.cli("portal", "authorize", "p05", "--refresh-token-file", token)
    many.control("p05").change("crm_deal", "update", count=1)
    wait_until(lambda: many.mirrored("p05"), "it is served again")


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--url", "http://portal.example/rest/", "--url must begin with https://"),
        ("--url", "https://portal.example/rest/1/secret/", "--url is the address of an incoming webhook"),
        ("--client-id", "two words", "--client-id"),
        ("--connector", "", "--connector"),
        ("--refresh-token-file", "/nonexistent", "nonexistent"),
    ],
)
def test_wrong_input_is_refused_and_changes_nothing(many: Many, option: str, value: str, named: str) -> None:
    good = {
        "--url": "https://new.example/rest/",
        "--client-id": "local.1",
        "--client-secret-file": many.secret("x", "y"),
        "--refresh-token-file": many.secret("z", "t"),
    }
    if option == "--connector":
        value = "not a connector"
    given = [part for pair in {**good, option: value}.items() for part in pair]
    before = _rows(many)
    assert named in many.cli("portal", "add", "new", *given, status=2).output
    assert "NAME" in many.cli("portal", "add", "New Name", *[p for pair in good.items() for p in pair], status=2).output
    assert "in the store already" in many.add("default", status=2).output
    assert _rows(many) == before


def test_one_queue_gets_no_second_name(many: Many) -> None:
    url = many.emulator.hello["portals"]["p07"]["client_endpoint"]
    many.emulator.hello["portals"]["twin"] = many.emulator.hello["portals"]["p07"]
    assert "Portal p07 has this address" in many.add("twin", url=url, status=2).output


def _rows(many: Many) -> list[object]:
    with many.runtime.store.engine.connect() as connection:
        return [
            tuple(row) for row in connection.execute(text("SELECT name, client_endpoint, desired_state FROM portals"))
        ]
