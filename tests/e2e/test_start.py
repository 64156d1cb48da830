"""Starting the processes as the documentation says, and refusing to start on wrong values."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from b24offline.supervisor import child_environ
from tests.support.waiting import GIVE_UP_SECONDS


def celery(*command: str, variables: dict[str, str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a celery command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", "b24offline", *command],
        cwd=cwd,
        env=child_environ(variables),
        capture_output=True,
        text=True,
        timeout=GIVE_UP_SECONDS,
        check=False,
    )


@pytest.mark.parametrize("command", ["worker", "beat"])
def test_a_wrong_value_stops_the_start_and_is_named(command: str) -> None:
    done = celery(command, variables={"B24_PORTAL_ULR": "https://portal.example/rest/"})
    assert done.returncode != 0
    assert "b24offline cannot start" in done.stderr
    assert "B24_PORTAL_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_teams_own_tasks_and_settings_are_not_imported(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("raise SystemExit('the wrong tasks')\n")
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "__init__.py").write_text("raise SystemExit('the wrong settings')\n")
    done = celery("report", variables={"PYTHONPATH": str(Path.cwd())}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "b24offline.tasks.poll" in done.stdout


@pytest.mark.parametrize("application", ["tasks", "b24offline"])
def test_no_module_has_two_names(application: str) -> None:
    code = (
        "import sys\nfrom celery.bin.celery import celery\n"
        f"celery(['-A', '{application}', 'report'], standalone_mode=False)\n"
        "from b24offline.tasks import app\napp.loader.import_default_modules()\n"
        "ours = {f: n for n, m in sys.modules.items() if (f := getattr(m, '__file__', None))"
        " and n.partition('.')[0] in ('tasks', 'settings', 'pipelines')}\n"
        "print(sorted(ours.values()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=child_environ({}), capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == str([application] if application == "tasks" else [])


def test_a_task_has_no_second_name() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import tasks.poll"], capture_output=True, text=True, check=False, timeout=60
    )
    assert "No module named 'tasks.poll'" in done.stderr
