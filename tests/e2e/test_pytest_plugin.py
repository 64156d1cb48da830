"""The plugin of pytest, as a team has it: what fails says why, it costs nothing unused, and has company."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import GIVE_UP_SECONDS

PIPELINES = """\
from b24offline.pipeline import route, step


@step(attempts=1)
def broken(event):
    raise KeyError("the price list of Mrs. Kaya")


@route("ONCRMDEALUPDATE")
def deal_broken(event):
    return broken.s()
"""
NOT_DRAINED = """\
def test_nothing_comes_of_it(b24_portal, b24_deployment):
    b24_portal.deals.update(5)
    b24_deployment.drain(seconds=15)
"""
DIED = """\
def test_the_worker_is_gone(b24_portal, b24_deployment):
    b24_deployment.workers[0].kill()
    b24_portal.deals.update(5)
    b24_deployment.drain()
"""
NO_PIPELINES = """\
def test_no_module_is_named(b24_deployment):
    pass
"""
WITH_PYTEST_CELERY = """\
import pipelines
from b24offline.testing import run_pipeline


def test_both(celery_worker_cluster_config, celery_session_app):
    assert run_pipeline("ONCRMDEALUPDATE 5").outcome == "failed"

    @celery_session_app.task
    def other():
        return 7

    assert other() == 7
"""


def run_pytest(folder: Path, test: str, *arguments: str, ini: str = "b24_pipelines = pipelines") -> str:
    """Run a test in a folder of its own, without anything of this checkout's configuration. Return what it printed."""
    (folder / "pipelines.py").write_text(PIPELINES)
    (folder / "test_it.py").write_text(test)
    (folder / "pytest.ini").write_text(f"[pytest]\n{ini}\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("B24_", "PYTEST_"))}
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=GIVE_UP_SECONDS, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("test", "ini", "said"),
    [
        (
            NOT_DRAINED,
            "b24_pipelines = pipelines",
            ("Not within 15 s: all events are acknowledged", "KeyError", "the price list of Mrs. Kaya", "deal_broken"),
        ),
        (DIED, "b24_pipelines = pipelines", ("worker0 ended, while waiting until all events are acknowledged",)),
        (DIED, "b24_pipelines = nowhere", ("ended, while waiting until the events", "No module named 'nowhere'")),
        (NO_PIPELINES, "", ("Name your pipelines for the deployment: b24_pipelines = my_pipelines",)),
    ],
    ids=["not drained", "worker killed", "no such module", "no module named"],
)
def test_what_fails_shows_what_the_workers_said(tmp_path: Path, test: str, ini: str, said: tuple[str, ...]) -> None:
    printed = run_pytest(tmp_path, test, ini=ini)
    assert [words for words in said if words not in printed] == [], printed


def test_it_works_beside_pytest_celery(tmp_path: Path) -> None:
    assert "1 passed" in run_pytest(tmp_path, WITH_PYTEST_CELERY)


def test_unused_it_imports_nothing(tmp_path: Path) -> None:
    found = "{name for name in sys.modules if name.startswith('b24offline')}"
    light = {"b24offline", "b24offline.contract", "b24offline.errors", "b24offline.pytest_plugin"}
    test = f"import sys\n\n\ndef test_it():\n    assert {found} == {light}\n"
    assert "1 passed" in run_pytest(tmp_path, test)
