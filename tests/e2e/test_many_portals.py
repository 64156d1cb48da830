"""The measurements of docs/capacity.md run, and count what they say they count."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.many_portals import Polls

GIVE_UP_SECONDS = 500


def printed_by(module: str, *options: str) -> dict[str, float]:
    """Run a module and return the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "-m", module, *options], capture_output=True, text=True, timeout=GIVE_UP_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_polls_of_many_portals_are_counted_with_what_they_cost() -> None:
    found = printed_by("benchmarks.many_portals", "--portals", "12", "--interval", "3", "--seconds", "15")
    assert found["portals"] == 12
    assert found["polls"] >= 12
    assert found["cpu_ms_per_poll"] > 0
    assert found["ledger_bytes_per_portal"] > 0


def test_lateness_is_what_a_poll_came_after_its_interval() -> None:
    polls = Polls(interval_seconds=10.0)
    for polled_ms in (0, 0, 10_000, 22_000, 31_000):
        polls.note("acme", polled_ms)
    assert polls.late_seconds == [0.0, 2.0, 0.0]
    assert (polls.late(0.5), polls.late(1.0)) == (0.0, 2.0)
