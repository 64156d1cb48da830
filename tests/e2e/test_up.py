"""`b24offline up` restarts what is killed, ends in time, and continues after a restart."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from redis import Redis
from redis.exceptions import AuthenticationError

from b24offline.config import Config
from b24offline.emulator import Control, EmulatorProcess
from b24offline.runtime import Runtime
from b24offline.supervisor import Grace, child_environ, with_ledger_address
from demo.comparison import compare
from tests.support.up_process import Up, common_variables, portal_variables
from tests.support.waiting import GIVE_UP_SECONDS, wait_until

PORTAL = "acme"
BUSY_SECONDS = 30
"""What a busy machine may add until a killed process is gone and the supervisor has noticed."""


@dataclass
class Deployment:
    """One supervisor for all tests of the module, and its portal."""

    up: Up
    control: Control
    runtime: Runtime

    def change(self, count: int = 5) -> None:
        """Change some deals."""
        self.control.change("crm_deal", "update", count=count)

    def mirrored(self) -> bool:
        """Return whether nothing waits, and the mirror is the portal."""
        if self.control.state()["records"]:
            return False
        return compare(self.control.objects(since_changes=True), self.runtime.mirror.rows(PORTAL)).equal


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Everything runs."""
    folder = tmp_path_factory.mktemp("up")
    with EmulatorProcess(objects=60) as emulator:
        variables = {**common_variables(folder), **portal_variables(emulator, PORTAL)}
        up = Up(folder, variables).with_flower()
        try:
            up.start()
            runtime = Runtime(with_ledger_address(Config.load(up.variables)))
            control = emulator.control()
            wait_until(lambda: control.state()["bindings"], "events are bound")
            yield Deployment(up, control, runtime)
        finally:
            up.close()


def running(deployment: Deployment) -> None:
    """Start it where an earlier test has ended it."""
    if not deployment.up.left():
        deployment.up.start()


def test_it_serves_the_configured_portal_on_an_embedded_valkey(deployment: Deployment) -> None:
    running(deployment)
    programs = {"valkey", "beat", "work", "settle", "flower"}
    wait_until(lambda: set(deployment.up.pids()) == programs, "each program is started")
    deployment.change()
    wait_until(deployment.mirrored, "changes are mirrored")
    log = deployment.up.log()
    assert f"Flower: http://127.0.0.1:{deployment.up.flower_port}, login (name:password) in " in log
    assert "Portals: acme (run)" in log
    assert "work   | " in log
    assert "b24offline.tick[" not in log, "routine lines are left out"


def test_secrets_are_known_to_those_only_who_need_them(deployment: Deployment) -> None:
    running(deployment)
    wait_until(lambda: _answers(deployment.up.flower_port), "Flower answers")
    data = deployment.up.folder / "data"
    login = (data / "flower.login").read_text().strip()
    password = urlsplit(deployment.runtime.config.redis_url).password
    assert password is not None
    for file in (data / "flower.login", data / "valkey" / "password.conf", data / "secret.key"):
        assert file.stat().st_mode & 0o777 == 0o600, file
    for folder in (data, data / "valkey", data / "heartbeats"):
        assert folder.stat().st_mode & 0o777 == 0o700, folder

    tokens = {deployment.up.variables[f"B24_{name}"] for name in ("CLIENT_SECRET", "REFRESH_TOKEN")}
    environs = {name: Path(f"/proc/{pid}/environ").read_text() for name, pid in deployment.up.pids().items()}
    assert all(token in environs["work"] for token in tokens)
    assert not [name for name in ("valkey", "beat", "flower") if any(token in environs[name] for token in tokens)]
    lines = [" ".join(process.cmdline()) for process in deployment.up.left()] + [deployment.up.log()]
    secret = {*tokens, password, login.partition(":")[2], (data / "secret.key").read_text().strip()}
    assert not [line for line in lines if any(each in line for each in secret)]

    for name in ("beat", "work", "settle"):
        limits = Path(f"/proc/{deployment.up.pids()[name]}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE), "a core dump would hold secrets"

    with pytest.raises(AuthenticationError):
        Redis(port=urlsplit(deployment.runtime.config.redis_url).port or 0).ping()
    tasks = f"http://127.0.0.1:{deployment.up.flower_port}/api/tasks"
    assert requests.get(tasks, timeout=10).status_code == 401
    assert requests.get(tasks, auth=tuple(login.split(":")), timeout=10).status_code == 200


@pytest.mark.parametrize("program", ["valkey", "beat", "work", "settle", "flower"])
def test_a_killed_program_is_restarted(deployment: Deployment, program: str) -> None:
    running(deployment)
    deployment.change(20)
    before = deployment.up.pids()[program]
    group = [p.pid for p in deployment.up.left() if os.getpgid(p.pid) == before]
    if program == "work":
        assert len(group) == 3, "a main process and two children"
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: deployment.up.pids()[program] != before, f"{program} is started again")
    wait_until(lambda: not any(_alive(pid) for pid in group), "its children died with it")
    deployment.change(20)
    wait_until(deployment.mirrored, f"changes are mirrored without the old {program}")
    if program == "flower":
        wait_until(lambda: _answers(deployment.up.flower_port), "Flower answers")
    others = {name: pid for name, pid in deployment.up.pids().items() if name != program}
    assert all(_alive(pid) for pid in others.values()), "nothing else died of it"


def test_a_worker_that_hangs_is_replaced(deployment: Deployment) -> None:
    running(deployment)
    wait_until(deployment.mirrored, "nothing is left to do")
    before = deployment.up.pids()
    os.killpg(before["work"], signal.SIGSTOP)
    deployment.change(20)
    wait_until(lambda: deployment.up.pids()["work"] != before["work"], "it is killed and started again")
    wait_until(deployment.mirrored, "changes are mirrored")
    assert "process hangs, killing it | program=work" in deployment.up.log()
    assert all(deployment.up.pids()[name] == before[name] for name in before if name != "work"), "no other died"


def test_a_second_start_on_the_same_data_is_refused(deployment: Deployment) -> None:
    running(deployment)
    done = _cli(deployment, "up")
    assert done.returncode == 2, done.stderr
    assert f"as process {deployment.up.pid}" in done.stderr
    assert "Traceback" not in done.stderr
    assert all(_alive(pid) for pid in deployment.up.pids().values())


def test_status_is_healthy(deployment: Deployment) -> None:
    running(deployment)
    done = _cli(deployment, "status")
    assert done.returncode == 0, done.stdout + done.stderr
    assert PORTAL in done.stdout


def test_the_doctor_finds_all_well(deployment: Deployment) -> None:
    running(deployment)
    checks: list[dict[str, str]] = []

    def well() -> bool:
        checks[:] = json.loads(_cli(deployment, "doctor", "--json").stdout)
        return not [check for check in checks if check["state"] == "failed"]

    wait_until(well, "no check fails")
    about = {check["name"]: check["finding"] for check in checks}
    assert about["queue b24offline.settle"].startswith("Read by settle@")
    assert about["beat"] == "It ticks."
    assert about["connector"] == "No other deployment was seen on the connector b24offline."


def test_a_killed_supervisor_ends_all_and_a_new_one_continues(deployment: Deployment) -> None:
    running(deployment)
    address = deployment.runtime.config.redis_url
    Redis.from_url(address).set("canary", "kept")
    deployment.up.pids()
    deployment.up.kill()
    wait_until(lambda: not deployment.up.left(), "nothing is left running")
    deployment.change()
    assert deployment.control.state()["free"] > 0
    deployment.up.start()
    wait_until(deployment.mirrored, "what changed meanwhile is mirrored")
    assert Redis.from_url(address, decode_responses=True).get("canary") == "kept"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_in_time_and_continues_after_a_restart(deployment: Deployment, number: int) -> None:
    running(deployment)
    deployment.control.start_traffic(rate=20, seconds=600)
    wait_until(deployment.runtime.services(PORTAL).ledger.open_batches, "work is under way")
    took = deployment.up.interrupt(number)
    assert took < Grace().others_seconds + Grace().last_seconds + BUSY_SECONDS
    wait_until(lambda: not deployment.up.left(), "nothing is left running")
    deployment.control.stop_traffic()
    deployment.change()
    deployment.up.start()
    wait_until(deployment.mirrored, "what changed meanwhile is mirrored")


def _cli(deployment: Deployment, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "b24offline", *command],
        env=child_environ(deployment.up.variables),
        capture_output=True,
        text=True,
        timeout=GIVE_UP_SECONDS,
        check=False,
    )


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthcheck", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
