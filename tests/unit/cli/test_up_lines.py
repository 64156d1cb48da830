"""What `b24offline up` prints of its processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from b24offline.cli.up import commands
from b24offline.config import Config

SAY = "from b24offline.cli.up import say; say('work', 'Омар'); say('work', 'next')"


def test_a_character_that_the_terminal_does_not_know_is_escaped() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SAY],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "work   | \\u041e\\u043c\\u0430\\u0440\nwork   | next\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_costs_lines_only() -> None:
    code = f"{SAY}; import sys, os; os.write(2, b'alive'); os._exit(0)"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"alive")


def test_the_receiver_of_signals_is_started_where_it_has_an_address() -> None:
    without = Config.load({})
    with_push = Config.load({"B24_PUSH_URL": "https://push.example.com/b24"})
    assert [name for name, _ in commands(without, 0)] == ["beat", "work", "settle"]
    started = dict(commands(with_push, 0))
    assert list(started) == ["beat", "work", "settle", "push"]
    assert started["push"][1:] == ("-m", "b24offline", "push")
