"""The file whose age tells a health check that worker and beat live."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.support.stack import Stack
from tests.support.waiting import wait_until

SILENCE_SECONDS = 6
"""Longer than several heartbeats."""


def test_worker_and_beat_touch_the_file_while_they_live(start_stack: Callable[..., Stack], tmp_path: Path) -> None:
    file = tmp_path / "heartbeat"

    def await_touch() -> int:
        before = file.stat().st_mtime_ns
        return int(wait_until(lambda: (now := file.stat().st_mtime_ns) > before and now, "another heartbeat"))

    stack = start_stack(with_beat=False, bind=False, variables={"B24_HEARTBEAT_FILE": str(file)})
    wait_until(file.exists, "the worker's first heartbeat")
    await_touch()
    stack.workers[0].kill()
    last = file.stat().st_mtime_ns
    time.sleep(SILENCE_SECONDS)
    assert file.stat().st_mtime_ns == last, "touched without a worker"
    stack.beat.start()
    await_touch()
    await_touch()
    stack.beat.kill()


def test_a_file_that_cannot_be_written_ends_no_worker(start_stack: Callable[..., Stack], tmp_path: Path) -> None:
    stack = start_stack(variables={"B24_HEARTBEAT_FILE": str(tmp_path / "missing" / "heartbeat")})
    assert stack.workers[0].log_tail(100_000).count("heartbeat file cannot be written") == 1
