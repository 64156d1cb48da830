"""Starting the processes as the documentation says, and refusing to start on wrong values."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from b24offline.processes import child_environ, project_folder
from tests.integration.stack import PATIENCE, Stack, wait_until


def celery(*command: str, variables: dict[str, str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a celery command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", "tasks", *command],
        cwd=cwd or project_folder(),
        env=child_environ(variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE * 60,
        check=False,
    )


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"B24_PORTAL_URL": "http://portal.example/rest/"}, "B24_PORTAL_URL"),
        ({"B24_LIMIT": "none"}, "B24_LIMIT"),
        ({"B24_PORTAL_ULR": "https://portal.example/rest/"}, "B24_PORTAL_URL"),
        ({"B24_ORDER": "NAME ASC"}, "B24_ORDER"),
        ({"CELERY_BROKER_URL": "carrier-pigeon"}, "CELERY_BROKER_URL"),
    ],
)
def test_a_wrong_value_stops_the_start_with_a_sentence_that_names_it(variables: dict[str, str], named: str) -> None:
    for command in ("worker", "beat"):
        done = celery(command, variables=variables)
        assert done.returncode != 0
        assert "b24offline cannot start" in done.stderr
        assert named in done.stderr
        assert "Traceback" not in done.stderr


def test_a_mix_of_two_projects_is_refused(tmp_path: Path) -> None:
    stranger = tmp_path / "settings"
    stranger.mkdir()
    (stranger / "__init__.py").write_text("config = None\n")
    done = celery("report", variables={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path)
    assert done.returncode != 0
    (tmp_path / "tasks").symlink_to(project_folder() / "tasks")
    done = celery("report", variables={"PYTHONPATH": str(project_folder())}, cwd=tmp_path)
    assert done.returncode != 0
    assert "come from" in done.stderr


def test_the_documented_commands_serve_a_portal_by_configuration_alone(
    start_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    """`celery -A tasks worker` and `celery -A tasks beat`, with no option of ours."""
    stack = start_stack(workers=0, with_beat=False, bind=False)
    environ = child_environ(stack.variables)
    with (tmp_path / "out.log").open("wb") as log:
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "tasks", command, *options],
                cwd=project_folder(),
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
                process.wait(PATIENCE * 30)
    assert not list(project_folder().glob("celerybeat*")), "nothing is written outside the data folder"
