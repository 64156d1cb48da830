"""What the package offers: sorted names, no Celery where none is needed, one version."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest

import b24offline
from b24offline import pipeline
from b24offline.rest.transport import USER_AGENT


@pytest.mark.parametrize("module", [b24offline, pipeline])
def test_public_names_are_sorted_and_there(module: object) -> None:
    names = module.__all__
    assert names == sorted(names)
    assert all(getattr(module, name) for name in names)


@pytest.mark.parametrize(
    "command", ["import b24offline", "from b24offline.cli import main; main(['--help'], 'x', None, False)"]
)
def test_the_package_and_its_command_line_import_no_celery(command: str) -> None:
    code = f"import sys\n{command}\nprint(sorted({{'celery', 'kombu'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_version_is_the_installed_one() -> None:
    assert b24offline.__version__ == metadata.version("b24offline")
    assert f"b24offline/{b24offline.__version__}" == USER_AGENT


def test_a_handoff_names_task_queue_and_arguments() -> None:
    made = pipeline.handoff("shop.announce", 7, queue="shop", urgent=True)
    assert (made.task, made.args, made.kwargs) == ("shop.announce", (7,), {"urgent": True})
    assert made.options == {"queue": "shop"}


def test_celery_has_the_command_line_as_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "b24offline", "b24offline", "portal", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "celery b24offline portal" in done.stdout
