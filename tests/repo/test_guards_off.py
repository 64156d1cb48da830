"""The switches of the fault rows that play without a guard: each still reaches what it switches off, and has a row."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from importlib.resources import files
from typing import Any

import pytest

import tests.faults
from tests.faults import sabotage, sabotage_bounds, sabotage_bulk, sabotage_portal, sabotage_push, sabotage_queue
from tests.faults.row import rows

SCRIPTS = sorted(each.name.removesuffix(".lua") for each in files("b24offline.ledger").joinpath("scripts").iterdir())


def script_texts() -> list[str]:
    return [sys.modules["b24offline.ledger.transitions"]._script_text(name) for name in SCRIPTS if name != "prelude"]


@pytest.mark.parametrize("guard", sabotage.GUARDS)
def test_a_switch_replaces_what_the_product_has(guard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, replaced = script_texts(), set()

    def put(owner: Any, name: str, value: Any) -> None:
        monkeypatch.setattr(owner, name, value)  # an error where the product has no such name
        replaced.add(name)

    sabotage.GUARDS[guard](put)
    assert replaced, "nothing is switched off"
    if "_script_text" in replaced:
        assert script_texts() != texts, "no script has the text any more that is taken out of it"


def test_every_guard_is_switched_off_by_a_row_that_must_turn_red() -> None:
    for module in pkgutil.iter_modules(tests.faults.__path__, "tests.faults."):
        if module.name.startswith("tests.faults.rows_"):
            importlib.import_module(module.name)
    off = {row.plan.variables[sabotage.VARIABLE]: row for row in rows() if sabotage.VARIABLE in row.plan.variables}
    assert off.keys() == sabotage.GUARDS.keys()
    assert all(row.red for row in off.values())


def test_no_two_switches_have_one_name() -> None:
    modules = (sabotage_queue, sabotage_portal, sabotage_bounds, sabotage_bulk, sabotage_push)
    names = [guard for module in modules for guard in module.GUARDS]
    assert len(names) == len(set(names))
