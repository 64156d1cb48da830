"""A deployment in a folder, whose commands are run as a person runs them, at a portal of the emulator."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis import Redis

from b24offline.config import Config
from b24offline.emulator import EmulatorProcess
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
