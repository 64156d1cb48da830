"""What an event costs in messages, commands, scripts and requests, in each mode: counts, which no slow machine changes.

A little slack is for what depends on time instead of events: ticks, sweeps, empty polls.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest

from benchmarks.brokers import Brokers
from benchmarks.contestants import in_bulk, ours
from benchmarks.measure import Standing

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = 1000
WARM_UP = 200
MODES: dict[type[ours.Ours], dict[str, float]] = {
    ours.ChainMode: {
        "messages": 2.6,
        "message_bytes": 12_000,
        "broker_commands": 26,
        "ledger_commands": 84,
        "script_calls": 5.4,
        "requests": 0.12,
    },
    ours.FusedMode: {
        "messages": 1.6,
        "message_bytes": 7_500,
        "broker_commands": 15,
        "ledger_commands": 62,
        "script_calls": 2.9,
        "requests": 0.12,
    },
    ours.FusedModeReading: {
        "messages": 1.6,
        "message_bytes": 7_500,
        "broker_commands": 15,
        "ledger_commands": 72,
        "script_calls": 4.1,
        "requests": 0.12,
    },
    in_bulk.BulkOf50: {
        "messages": 0.3,
        "message_bytes": 800,
        "broker_commands": 4,
        "ledger_commands": 54,
        "script_calls": 0.9,
        "requests": 0.12,
    },
    in_bulk.BulkOf200: {
        "messages": 0.3,
        "message_bytes": 700,
        "broker_commands": 4,
        "ledger_commands": 53,
        "script_calls": 0.8,
        "requests": 0.12,
    },
    in_bulk.MirrorOnSqlite: {
        "messages": 0.3,
        "message_bytes": 800,
        "broker_commands": 4,
        "ledger_commands": 59,
        "script_calls": 1.2,
        "requests": 0.14,
    },
}
"""Mode -> at most so many for each event, in batches of 200 records."""


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_an_event_costs_no_more_than_recorded(mode: type[ours.Ours], tmp_path: Path) -> None:
    with Brokers(tmp_path).broker_for("mode") as broker, mode(tmp_path / "mode", broker) as contestant:
        contestant.pause()
        standing = Standing(contestant)
        standing.turn(WARM_UP)
        counts = asdict(standing.turn(EVENTS).counts)
    per_event = {name: count / EVENTS for name, count in counts.items()}
    assert {name: per_event[name] for name, bound in MODES[mode].items() if per_event[name] > bound} == {}
