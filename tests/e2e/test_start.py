"""Starting the processes as the documentation says, and refusing to start on wrong values."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from demo.processes import child_environ
from tests.support.stack import Stack
from tests.support.waiting import GIVE_UP_SECONDS, wait_until


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


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"B24_PORTAL_URL": "http://portal.example/rest/"}, "B24_PORTAL_URL"),
        ({"B24_BATCH_SIZE": "none"}, "B24_BATCH_SIZE"),
        ({"B24_PORTAL_ULR": "https://portal.example/rest/"}, "B24_PORTAL_URL"),
        ({"B24_ORDER": "NAME ASC"}, "B24_ORDER"),
        ({"CELERY_BROKER_URL": "carrier-pigeon"}, "CELERY_BROKER_URL"),
    ],
)
def test_a_wrong_value_stops_the_start_and_is_named(variables: dict[str, str], named: str) -> None:
    for command in ("worker", "beat"):
        done = celery(command, variables=variables)
        assert done.returncode != 0
        assert "b24offline cannot start" in done.stderr
        assert named in done.stderr
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


def test_the_documented_commands_serve_a_portal(start_stack: Callable[..., Stack], tmp_path: Path) -> None:
    """`celery -A b24offline worker` and `celery -A b24offline beat`, without options."""
    stack = start_stack(workers=0, with_beat=False, bind=False)
    environ = child_environ(stack.variables)
    with (tmp_path / "out.log").open("wb") as log:
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "b24offline", command, *options],
                env=environ,
                stdout=log,
                stderr=log,
            )
            for command, *options in (("worker",), ("beat",))
        ]
        try:
            wait_until(lambda: stack.control.state()["bindings"], "events are bound at start")
            stack.control.change("crm_deal", "update", count=5)
            stack.control.change("crm_item", "add", count=5)
            wait_until(lambda: stack.counters.get("events_acknowledged", 0) == 10, "all is settled")
            assert stack.compare().equal
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(GIVE_UP_SECONDS)
    assert not list(Path.cwd().glob("celerybeat*")), "nothing is written outside the data folder"
