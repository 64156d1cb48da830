"""What `b24offline up` prints of its processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
