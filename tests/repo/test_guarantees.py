"""The guarantees as documented: their figures are those of the code, and no row of the fault table is left out."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from b24offline.config import Timers
from tests.faults.playing import known_rows

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "guarantees.md").read_text("utf-8")


def test_the_figures_are_those_of_the_timers() -> None:
    reply = {name: float(seconds) for name, seconds in re.findall(r"^\| `(\w+_seconds)` \| (\d+) \|", TEXT, re.M)}
    timers = Timers()
    assert {name: getattr(timers, name) for name in reply} == reply
    left_out = {field.name for field in fields(Timers)} - set(reply)
    assert left_out == {"read_timeout_seconds", "step_backoff_seconds", "redrive_backoff_seconds", "circuit_seconds"}


def test_the_waits_are_those_of_the_timers() -> None:
    timers = Timers()
    for waits in (timers.step_backoff_seconds, timers.redrive_backoff_seconds, timers.circuit_seconds):
        assert ", ".join(f"{wait:.0f}" for wait in waits) + " s" in TEXT


def test_every_row_of_the_fault_table_has_its_place() -> None:
    named = [
        int(number)
        for numbers in re.findall(r"^\| [^|]+ \| ([\d, ]+) \|.*\|.*\|.*\|.*\|$", TEXT, re.M)
        for number in numbers.split(",")
    ]
    assert set(named) == {row.number for row in known_rows()}
