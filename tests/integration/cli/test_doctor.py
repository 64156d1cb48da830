"""`b24offline doctor` in a process of its own: every wrong turn has its line, its remedy and exit status 1."""

from __future__ import annotations

import subprocess
import sys
from threading import Event, Thread

import pytest
from redis import Redis

from b24offline.emulator import Control, EmulatorProcess
from b24offline.rest import ReserveOrder
from b24offline.supervisor import EmbeddedValkey, child_environ
from tests.support.newcomer import PIPELINES, Patient, emulator, patient, served

__all__ = ["emulator", "patient", "served"]

PATIENCE_SECONDS = 240
TWICE = '\n\n@route("ONCRMLEADADD", name="deal_changed")\ndef again(event):\n    return fetch.s()\n'


def test_before_the_first_start_each_thing_that_is_missing_is_named(patient: Patient) -> None:
    code, found = patient.checks()
    assert code == 1
    assert found["configuration"].startswith("ok | From the environment: B24_REDIS_URL, B24_DATA_DIR, ")
    assert found["ledger"].startswith("failed | redis://127.0.0.1:1/0 does not answer: ConnectionError: Error 111")
    assert found["broker"].startswith("failed | redis://127.0.0.1:1/0 does not answer: Oper")
    assert found["portals"] == "failed | No portal is connected yet. | Connect one: b24offline auth NAME.bitrix24.com"
    assert found["pipelines"] == "ok | chains can be imported; routes for 1 event. | "
    assert found["pipeline"] == "ok | 1 pipeline built a chain for each sample event. | "


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
    assert "data cannot be written: File too large.\n         -> Free space" in done.stdout
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
    assert (code, "another deployment uses the connector b24offline" in found["connector"]) == (1, True), found
