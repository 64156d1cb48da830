"""What is committed works in any directory of any machine: nothing ignored, no link out of the checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _git(*arguments: str) -> list[str]:
    listed = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.fail(f"git {' '.join(arguments)}: {listed.stderr}")
    return [name for name in listed.stdout.split("\0") if name]


@pytest.fixture(autouse=True)
def checkout() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout of git: nothing tells what is committed")


def test_nothing_that_is_ignored_is_committed() -> None:
    assert _git("ls-files", "-z", "--cached", "--ignored", "--exclude-standard") == []


def test_links_stay_in_the_checkout() -> None:
    entries = [entry.split("\t", 1) for entry in _git("ls-files", "-z", "--stage")]
    links = [name for mode, name in entries if mode.startswith("120000")]
    assert links, "the packages beside the product are links: none is found"
    out = [name for name in links if not (ROOT / name).resolve().is_relative_to(ROOT)]
    assert out == []


def test_the_environment_is_ignored_as_a_folder_and_as_a_link() -> None:
    assert _git("check-ignore", ".venv", "build", "dist") == [".venv\nbuild\ndist\n"]
