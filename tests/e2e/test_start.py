"""Starting the processes as the documentation says, and refusing to start on wrong values."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from b24offline.supervisor import EmbeddedValkey, child_environ
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


@pytest.mark.parametrize("command", ["worker", "beat"])
def test_a_wrong_value_stops_the_start_and_is_named(command: str) -> None:
    done = celery(command, variables={"B24_PORTAL_ULR": "https://portal.example/rest/"})
    assert done.returncode != 0
    assert "b24offline cannot start" in done.stderr
    assert "B24_PORTAL_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistake_in_a_pipeline_is_a_sentence_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import os\ndef half(:\n")
    variables = {"B24_PIPELINES": "broken", "B24_DATA_DIR": str(tmp_path), "B24_REDIS_URL": "redis://127.0.0.1:1/0"}
    done = celery("worker", variables=variables, cwd=tmp_path)
    assert done.returncode != 0
    assert "B24_PIPELINES: broken cannot be imported: " in done.stderr
    assert "broken.py, line 2: SyntaxError: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("worker", "-P", "solo"), ("beat",)], ids=["worker", "beat"])
def test_level_and_file_of_celery_and_a_missing_folder(
    command: tuple[str, ...], tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    folder, log = tmp_path / "not" / "there", tmp_path / "own.log"
    variables = {"B24_REDIS_URL": valkey.url, "B24_DATA_DIR": str(folder), "B24_LOG_FORMAT": "json"}
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "b24offline", *command, "-l", "debug", "-f", str(log)],
        env=child_environ(variables),
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(lambda: log.exists() and '"level": "DEBUG"' in log.read_text(), "it logs at DEBUG")
        assert process.poll() is None
    finally:
        process.terminate()
        written = process.communicate(timeout=GIVE_UP_SECONDS)[1].decode()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"time", "level", "logger", "message"} <= set(lines[0])
    assert folder.stat().st_mode & 0o777 == 0o700
    assert "celery.beat" not in written


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
