"""The file whose age tells a health check that worker and beat live."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.support.stack import Stack
from tests.support.waiting import wait_until

SILENCE_SECONDS = 6
"""Longer than several heartbeats."""


def await_touch(file: Path) -> None:
    """Wait until the file is touched once more."""
    before = file.stat().st_mtime_ns
    wait_until(lambda: file.stat().st_mtime_ns > before, "another heartbeat")


def stays_untouched(file: Path) -> bool:
    """Return whether the file is left untouched for a while."""
    before = file.stat().st_mtime_ns
    time.sleep(SILENCE_SECONDS)
    return file.stat().st_mtime_ns == before


def test_a_worker_touches_the_file_until_it_ends(start_stack: Callable[..., Stack], tmp_path: Path) -> None:
    file = tmp_path / "heartbeat"
    stack = start_stack(with_beat=False, bind=False, variables={"B24_HEARTBEAT_FILE": str(file)})
    wait_until(file.exists, "the worker's first heartbeat")
    await_touch(file)
    stack.workers[0].kill()
    assert stays_untouched(file)


def test_beat_touches_the_file_with_each_tick(start_stack: Callable[..., Stack], tmp_path: Path) -> None:
    file = tmp_path / "heartbeat"
    stack = start_stack(workers=0, bind=False, variables={"B24_HEARTBEAT_FILE": str(file)})
    wait_until(file.exists, "beat's first tick")
    await_touch(file)
    stack.beat.kill()
    assert stays_untouched(file)


def test_a_file_that_cannot_be_written_ends_no_worker(start_stack: Callable[..., Stack], tmp_path: Path) -> None:
    stack = start_stack(bind=False, variables={"B24_HEARTBEAT_FILE": str(tmp_path / "missing" / "heartbeat")})
    wait_until(lambda: stack.control.state()["bindings"], "events are bound all the same")
    assert stack.workers[0].log_tail(100_000).count("heartbeat file cannot be written") == 1
