"""Prometheus and promtool, where they are installed: Debian's package `prometheus`, or any release on the PATH."""

from __future__ import annotations

import shutil
import subprocess

import pytest


def binary(name: str) -> str:
    """Return the path of `prometheus` or `promtool`; skip the test where there is none."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: the package prometheus has it")
    return found


def promtool(*words: str, stdin: str | None = None) -> str:
    """Run promtool and return what it says. Fail where it finds something wrong."""
    done = subprocess.run([binary("promtool"), *words], input=stdin, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
