"""The wheel, installed beside a team's own modules: it holds everything, and every command runs."""

from __future__ import annotations

import os
import signal
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from b24offline.emulator import EmulatorProcess
from b24offline.supervisor import EmbeddedValkey, child_environ, tethered
from tests.e2e.conftest import CHECKOUT, Distributions
from tests.support.waiting import wait_until

TEAM = {
    "tasks.py": "WHO = 'the team'\n",
    "settings/__init__.py": "NOTES = 'notes.txt'\n",
    "my_pipelines.py": """\
import settings
import tasks

from b24offline.pipeline import current, fetch, load, route, step, upsert


@step
def note(reference):
    with open(settings.NOTES, "a") as notes:
        print(tasks.WHO, current().event.name, load(reference).data["ID"], file=notes)
    return reference


@route("ONCRMDEALADD", "ONCRMDEALUPDATE", "ONCRMDEALDELETE")
def deal_noted(event):
    return fetch.s() | note.s() | upsert.s()
""",
}
EVERY_HELP = """\
import sys

from b24offline.cli import main


def show(command, path):
    try:
        command.main([*path, "--help"], "b24offline")
    except SystemExit as end:
        assert not end.code, path
    found = main
    for name in path:
        found = found.get_command(None, name)
    for name in found.list_commands(None) if hasattr(found, "list_commands") else ():
        show(command, [*path, name])


show(main, [])
print(sorted({"celery", "kombu", "tasks", "settings"} & set(sys.modules)))
"""


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """A folder of a team whose modules have the names of our folders."""
    for name, text in TEAM.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def emulator() -> Iterator[EmulatorProcess]:
    """A portal."""
    with EmulatorProcess() as process:
        yield process


def variables(emulator: EmulatorProcess, folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of a deployment; nothing of this checkout is in it."""
    values = {
        "B24_PORTAL_URL": emulator.rest,
        "B24_PORTAL_NAME": "acme",
        "B24_CLIENT_ID": emulator.client_id,
        "B24_CLIENT_SECRET": emulator.client_secret,
        "B24_REFRESH_TOKEN": str(emulator.hello["refresh_token"]),
        "B24_AUTH_URL": emulator.auth_url,
        "B24_LOOPBACK_HTTP": "true",
        "B24_DATA_DIR": str(folder / "data"),
        "B24_PIPELINES": "my_pipelines",
        "B24OFFLINE_TEST_TIME_SCALE": "0.05",
        "B24_POLL_INTERVAL_MAX_SECONDS": "1",
        **more,
    }
    return {name: value for name, value in child_environ(values).items() if name != "PYTHONPATH"}


@contextmanager
def running(*commands: tuple[str, ...], folder: Path, environ: dict[str, str]) -> Iterator[None]:
    """Run the commands in a folder while the context lasts, and show what they wrote."""
    with (folder / "output.log").open("wb") as log:
        processes = [
            subprocess.Popen(tethered(command), cwd=folder, env=environ, stdout=log, stderr=log, start_new_session=True)
            for command in commands
        ]
        try:
            yield
        finally:
            for process in processes:
                os.killpg(process.pid, signal.SIGTERM)
            for process in processes:
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            print((folder / "output.log").read_text("utf-8", "replace")[-8000:])


def expect_an_event_noted(emulator: EmulatorProcess, folder: Path) -> None:
    """Change a deal and expect it in the team's notes and acknowledged."""
    control = emulator.control()
    wait_until(lambda: control.state()["bindings"], "events are bound")
    control.change("crm_deal", "update", count=1)
    notes = folder / TEAM["settings/__init__.py"].split("'")[1]
    wait_until(notes.exists, "the team's step runs")
    wait_until(lambda: not control.state()["records"], "the event is acknowledged")
    assert notes.read_text().startswith("the team ONCRMDEALUPDATE ")


def files(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return sorted(archive.namelist())


def test_the_wheel_holds_every_module_once(distributions: Distributions) -> None:
    names = files(distributions.wheel)
    assert len(names) == len(set(names))
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"b24offline"}
    modules = {
        f"b24offline/{path.relative_to(root).as_posix()}"
        for root, folder in [(CHECKOUT / "b24offline", ".")]
        + [(CHECKOUT, folder) for folder in ("tasks", "pipelines", "settings")]
        for path in (root / folder).rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    assert {name for name in names if ".dist-info/" not in name} == modules


def test_the_sdist_makes_the_same_wheel(distributions: Distributions) -> None:
    assert files(distributions.wheel_of_sdist) == files(distributions.wheel)
    with tarfile.open(distributions.sdist) as archive:
        assert not [member.name for member in archive if not member.isfile()]
        tops = {member.name.split("/")[1] for member in archive}
    assert not tops & {"tasks", "pipelines", "settings", "tests", "tools"}


def test_every_help_is_shown_without_celery(installed: Path, team: Path) -> None:
    done = subprocess.run(
        [installed / "python", "-c", EVERY_HELP], cwd=team, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage: b24offline") > 20
    assert done.stdout.splitlines()[-1] == "[]"


def test_worker_and_beat_run_a_teams_pipeline(
    installed: Path, team: Path, emulator: EmulatorProcess, valkey: EmbeddedValkey
) -> None:
    environ = variables(emulator, team, B24_REDIS_URL=valkey.url)
    celery = (str(installed / "celery"), "-A", "b24offline")
    with running((*celery, "worker", "-c", "2"), (*celery, "beat"), folder=team, environ=environ):
        expect_an_event_noted(emulator, team)
        status = subprocess.run(
            [*celery, "b24offline", "status"],
            cwd=team,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert status.returncode == 0, status.stderr
    assert not list(team.glob("celerybeat*")), "beat wrote outside of the data folder"
    assert "acme" in status.stdout


def test_up_runs_a_teams_pipeline(installed: Path, team: Path, emulator: EmulatorProcess) -> None:
    environ = variables(emulator, team, B24_FLOWER_PORT="0", B24_CONCURRENCY="2")
    with running((str(installed / "b24offline"), "up"), folder=team, environ=environ):
        expect_an_event_noted(emulator, team)
