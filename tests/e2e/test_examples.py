"""The examples, and a new folder, as a newcomer has them: with the wheel, in an empty environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import CHECKOUT, INSTALL_SECONDS, Distributions
from tests.support.stack import empty_queues

RUN_SECONDS = 800


@pytest.fixture(scope="module")
def programs(installed: Path, distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment of the wheel with what tests need, Flower, and the packages of the examples."""
    pins = re.findall(r"^[A-Za-z0-9._-]+==[^\s;]+", (CHECKOUT / "requirements-dev.lock").read_text(), re.MULTILINE)
    versions = tmp_path_factory.mktemp("versions") / "versions.txt"
    versions.write_text("\n".join(pins))
    wanted = f"b24offline[testing,flower] @ {distributions.wheel.as_uri()}"
    pip, of_examples = str(installed / "pip"), str(CHECKOUT / "examples" / "requirements.txt")
    command = [pip, "install", "--quiet", "--constraint", str(versions), "--requirement", of_examples, wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS)
    assert done.returncode == 0, done.stderr
    return installed


def run(*command: str | Path, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder; nothing of this checkout is in its environment."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**kept, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_SECONDS,
    )


def passed(programs: Path, folder: Path, **variables: str) -> str:
    """Run the tests of a folder. Return how they ended."""
    done = run(programs / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", folder=folder, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("example", "tests"), [("django", 2), ("notify", 4), ("opentelemetry", 1), ("sentry", 2), ("write_back", 3)]
)
def test_an_example_passes(programs: Path, tmp_path: Path, example: str, tests: int) -> None:
    folder = shutil.copytree(CHECKOUT / "examples" / example, tmp_path / example)
    assert f"{tests} passed" in passed(programs, folder)


@pytest.mark.parametrize("broker", ["valkey", "rabbitmq"])
def test_two_stacks_share_a_broker(programs: Path, tmp_path: Path, broker: str, request: pytest.FixtureRequest) -> None:
    folder = shutil.copytree(CHECKOUT / "examples" / "existing_stack", tmp_path / "example")
    variables = {}
    if broker == "rabbitmq":
        variables["EXAMPLE_BROKER_URL"] = str(request.getfixturevalue("rabbit").url)
        empty_queues(variables["EXAMPLE_BROKER_URL"])
    assert "1 passed" in passed(programs, folder, **variables)


def test_the_tests_of_a_new_folder_pass_at_once(programs: Path, tmp_path: Path) -> None:
    made = run(programs / "b24offline", "new", "my-deals", folder=tmp_path)
    assert (made.returncode, made.stderr) == (0, "")
    folder = tmp_path / "my-deals"
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600
    assert len((folder / "README.md").read_text().splitlines()) <= 6
    assert "2 passed" in passed(programs, folder)
    again = run(programs / "b24offline", "new", "my-deals", folder=tmp_path)
    assert (again.returncode, "already exists" in again.stderr) == (2, True)
    assert run(programs / "b24offline", "new", "../a b", folder=tmp_path).returncode == 2
