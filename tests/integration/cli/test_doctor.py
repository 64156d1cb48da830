"""`b24offline doctor` in a process of its own: every wrong turn has its line, its remedy and exit status 1."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import pytest
from redis import Redis

from b24offline.config import Config
from b24offline.emulator import Control, EmulatorProcess
from b24offline.rest import ReserveOrder
from b24offline.runtime import Runtime
from b24offline.supervisor import EmbeddedValkey, child_environ
from tests.support.store_bench import KEY

PATIENCE_SECONDS = 240
NOWHERE = "redis://127.0.0.1:1/0"
PIPELINES = """
from b24offline.pipeline import fetch, handoff, route, step


@step
def noted(reference):
    return reference


@route("ONCRMDEALUPDATE")
def deal_changed(event):
    return fetch.s() | noted.s()
"""
TWICE = '\n\n@route("ONCRMLEADADD", name="deal_changed")\ndef again(event):\n    return fetch.s()\n'


@dataclass
class Patient:
    """A deployment in a folder, and how the doctor finds it."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.modules(chains=PIPELINES)
        self.variables = {
            "B24_DATA_DIR": str(self.folder / "data"),
            "B24_SECRET_KEY": KEY,
            "B24_REDIS_URL": NOWHERE,
            "B24_PIPELINES": "chains",
            **self.variables,
        }

    def modules(self, **texts: str) -> None:
        for name, text in texts.items():
            (self.folder / f"{name}.py").write_text(text)

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "b24offline", *words],
            cwd=self.folder,
            env=child_environ({**self.variables, **variables}),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def checks(self, *words: str, **variables: str) -> tuple[int, dict[str, str]]:
        """Return the exit status, and check -> state, finding and remedy."""
        done = self.run("doctor", "--json", *words, **variables)
        assert "Traceback" not in done.stderr, done.stderr
        found: dict[str, str] = {}
        for check in json.loads(done.stdout):
            line = f"{check['state']} | {check['finding']} | {check['remedy']}"
            found[check["name"]] = f"{found[check['name']]}\n{line}" if check["name"] in found else line
        return done.returncode, found

    def runtime(self, **variables: str) -> Runtime:
        return Runtime(Config.load({**self.variables, **variables}))


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(tmp_path)


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorProcess]:
    with EmulatorProcess() as process:
        yield process


@pytest.fixture
def served(tmp_path: Path, emulator: EmulatorProcess, redis: Redis, valkey: EmbeddedValkey) -> Iterator[Patient]:
    """A deployment with a portal that was polled and has its events subscribed; no worker runs."""
    del redis  # emptied
    control = emulator.control()
    control.app(removed=True)
    token = control.app(removed=False)["refresh_token"]
    patient = Patient(
        tmp_path,
        {
            "B24_REDIS_URL": valkey.url,
            "B24_PORTAL_URL": emulator.rest,
            "B24_PORTAL_NAME": "acme",
            "B24_AUTH_URL": emulator.auth_url,
            "B24_CLIENT_ID": emulator.client_id,
            "B24_CLIENT_SECRET": emulator.client_secret,
            "B24_REFRESH_TOKEN": token,
            "B24_LOOPBACK_HTTP": "true",
        },
    )
    runtime = patient.runtime(B24_EVENTS="ONCRMDEALUPDATE")
    runtime.ensure_configured_portal()
    services = runtime.services("acme")
    services.poller.poll(runtime.config.all_lanes["default"])
    services.subscriber.sync(services.portal)
    yield patient
    runtime.close()
    control.user(admin=True)
    control.licence(rest_offline_extended=True)


def test_before_the_first_start_each_thing_that_is_missing_is_named(patient: Patient) -> None:
    code, found = patient.checks()
    assert code == 1
    assert found["configuration"].startswith("ok | B24_REDIS_URL (environment), B24_DATA_DIR (environment), ")
    assert found["ledger"].startswith("failed | redis://127.0.0.1:1/0 does not answer: ConnectionError. | Start Redis")
    assert found["broker"].startswith("failed | redis://127.0.0.1:1/0 cannot be used")
    assert found["portals"] == "failed | No portal is connected yet. | Connect one: b24offline auth NAME.bitrix24.com"
    assert found["pipelines"] == "ok | chains: 1 events have a route. | "
    assert found["pipeline"] == "ok | 1 pipelines build their chains for a made-up event. | "


@pytest.mark.parametrize(
    ("texts", "variables", "check", "words"),
    [
        pytest.param({"chains": "import os\ndef half(:\n"}, {}, "pipelines", "chains.py, line 2: Syntax", id="syntax"),
        pytest.param({}, {"B24_PIPELINES": "nothing"}, "pipelines", "No module named 'nothing'. Run", id="no module"),
        pytest.param({"chains": "1 / 0"}, {}, "pipelines", "chains.py, line 1: ZeroDivisionError", id="raises"),
        pytest.param(
            {"chains": PIPELINES, "more": PIPELINES.split("@route", maxsplit=1)[0] + TWICE},
            {"B24_PIPELINES": "chains,more"},
            "pipelines",
            "two pipelines are called 'deal_changed', in chains and more: give one",
            id="duplicate",
        ),
        pytest.param({"chains": "import os"}, {}, "pipelines", "chains routes no event", id="no route"),
        pytest.param(
            {"chains": PIPELINES.replace("noted.s()", 'handoff("billing.charge", queue="billing")')},
            {},
            "pipeline",
            "goes to queue billing, which B24_EXTERNAL_QUEUES does not name",
            id="external queue",
        ),
        pytest.param({"chains": PIPELINES.replace(".s()", "", 1)}, {}, "pipeline", "raised TypeError", id="shape"),
        pytest.param(
            {"chains": PIPELINES.replace("DEALUPDATE", "DEALUPDATED")}, {}, "events", "ONCRMDEALUPDATED", id="unknown"
        ),
        pytest.param(
            {"chains": PIPELINES.replace("ONCRMDEALUPDATE", "ONAPPINSTALL")}, {}, "events", "never queue", id="online"
        ),
    ],
)
def test_what_is_wrong_with_pipelines_is_named(patient: Patient, texts, variables, check, words) -> None:
    patient.modules(**texts)
    code, found = patient.checks(**variables)
    assert (code, words in found[check]) == (1, True), found[check]


def test_a_wrong_setting_ends_the_examination(patient: Patient) -> None:
    code, found = patient.checks(B24_BATCH_SIZE="none")
    assert (code, list(found), "B24_BATCH_SIZE (none)" in found["configuration"]) == (1, ["configuration"], True)


def test_a_full_disk_is_named(patient: Patient) -> None:
    limited = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (0, 0)); import signal as s; "
    limited += "s.signal(s.SIGXFSZ, s.SIG_IGN); from b24offline.cli import main; main(['doctor'])"
    done = subprocess.run(
        [sys.executable, "-c", limited],
        cwd=patient.folder,
        env=child_environ(patient.variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "data cannot be written: File too large.\n         -> Make room" in done.stdout
    assert "failed   store: " in done.stdout


def test_status_with_no_portal_tells_of_a_ledger_that_is_away(patient: Patient) -> None:
    done = patient.run("status")
    assert (done.returncode, "The ledger cannot be reached" in done.stderr) == (1, True)


def test_an_evicting_redis_is_named(patient: Patient, valkey: EmbeddedValkey, redis: Redis) -> None:
    redis.config_set("maxmemory", "200mb")
    redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        code, found = patient.checks(B24_REDIS_URL=valkey.url)
    finally:
        redis.config_set("maxmemory-policy", "noeviction")
        redis.config_set("maxmemory", "0")
    assert (code, found["ledger eviction"].split(" | ")[:2]) == (
        1,
        ["failed", "The server may delete our keys when it is full (allkeys-lru)."],
    )
    assert found["ledger"].startswith("ok | Valkey")
    assert found["queue b24offline.poll"].startswith("failed | No worker reads it")
    assert found["beat"].startswith("failed | No tick within 5 s")


def test_a_portal_that_is_well_has_no_complaint(served: Patient) -> None:
    code, found = served.checks()
    assert code == 1, "no worker runs"
    about = ("application", "administrator", "plan", "scopes", "methods", "portal clock", "subscriptions", "connector")
    assert {name: found[name].partition(" ")[0] for name in about} == dict.fromkeys(about, "ok")


@pytest.mark.parametrize(
    ("make", "check", "words"),
    [
        pytest.param(lambda c: c.user(admin=False), "administrator", "is not an administrator", id="user"),
        pytest.param(lambda c: c.licence(rest_offline_extended=False), "plan", "rest_offline_extended", id="plan"),
        pytest.param(lambda c: c.drop_subscriptions(), "subscriptions", "1 of 1 events with a route", id="vanished"),
        pytest.param(
            lambda c: (c.expire_tokens(), c.revoke_tokens()),
            "authorization",
            "the authorization is lost (HTTP 400, invalid_grant",
            id="dead refresh token",
        ),
    ],
)
def test_what_is_wrong_with_a_portal_is_named(served: Patient, emulator: EmulatorProcess, make, check, words) -> None:
    make(emulator.control())
    code, found = served.checks()
    assert (code, found[check].startswith("failed | "), words in found[check]) == (1, True, True), found[check]


def _live_elsewhere(patient: Patient, control: Control, stop: Event) -> None:
    """Be a second deployment on the same connector, with a ledger of its own: reserve and acknowledge all the time."""
    queue = patient.runtime(B24_REDIS_KEY_PREFIX="other").services("acme").queue
    while not stop.is_set():
        control.change("crm_deal", "update", count=5)
        with queue.reserving() as reserve:
            batch = reserve(ReserveOrder(50, {"ID": "ASC"}))
        stop.wait(0.5)
        if batch:
            control.drop_records()


def test_a_second_deployment_that_lives_is_found(served: Patient, emulator: EmulatorProcess) -> None:
    stop = Event()
    other = Thread(target=_live_elsewhere, args=(served, emulator.control(), stop))
    other.start()
    try:
        code, found = served.checks()
    finally:
        stop.set()
        other.join()
    assert (code, "another deployment lives on the connector b24offline" in found["connector"]) == (1, True), found
