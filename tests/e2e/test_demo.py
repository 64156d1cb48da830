"""The demo, cut short: it mirrors in bulk, survives its kill, and says in plain words what an import came to."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from demo.yields import Yield

SECONDS, AT_ONCE, OBJECTS = 4, 300, 400
GIVE_UP_SECONDS = 500


def test_it_ends_well_and_says_what_an_event_cost() -> None:
    options = {"--seconds": SECONDS, "--at-once": AT_ONCE, "--objects": OBJECTS}
    done = subprocess.run(
        [sys.executable, "-m", "demo", *(str(part) for option in options.items() for part in option)],
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=GIVE_UP_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SIGKILL to worker-1" in done.stdout
    assert "Every change arrived" in done.stdout
    said = re.search(
        r"The import: (\d+) events in [\d.]+ s, (\d+) events a second, .*took (\d+) requests to the portal, "
        r"([\d.]+) requests an event",
        done.stdout,
        re.DOTALL,
    )
    assert said, done.stdout
    events, per_second, requests, per_event = (float(text) for text in said.groups())
    assert events == AT_ONCE
    assert per_second > 0
    assert per_event == round(requests / events, 3)
    assert per_event < 1, "one by one it would be three"


def test_what_an_import_came_to_is_divided_out() -> None:
    came = Yield(events=2_000, requests=100, seconds=20.0, rate=5.0)
    assert (came.events_per_second, came.requests_per_event, came.loop_seconds) == (100.0, 0.05, 1_200.0)
    assert "20 minutes (calculated)" in came.in_words()
    assert Yield(events=0, requests=3, seconds=0.0, rate=5.0).requests_per_event == 0.0
