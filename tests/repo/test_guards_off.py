"""The switches of the fault rows that play without a guard: each still reaches what it switches off, and has a row."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest

import tests.faults
from tests.faults import sabotage, sabotage_portal, sabotage_queue
from tests.faults.row import rows

SCRIPTS = sorted(each.name.removesuffix(".lua") for each in files("b24offline.ledger").joinpath("scripts").iterdir())
Places = dict[tuple[object, str], Any]


def places() -> Places:
    """Return every name of the product, in its modules and classes, with what it stands for."""
    found: Places = {}
    modules = [each for name, each in sys.modules.items() if name.split(".")[0] == "b24offline"]
    classes = {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__.startswith("b24offline")
    }
    for owner in (*modules, *classes):
        found |= {(owner, name): value for name, value in vars(owner).items()}
    return found


def script_texts() -> list[str]:
    return [sys.modules["b24offline.ledger.transitions"]._script_text(name) for name in SCRIPTS if name != "prelude"]


@pytest.fixture
def before() -> Iterator[Places]:
    """The product as it is; whatever a switch changes is put back."""
    honest = places()
    yield honest
    for (owner, name), value in places().items():
        if (owner, name) not in honest:
            delattr(owner, name)
        elif honest[owner, name] is not value:
            setattr(owner, name, honest[owner, name])


@pytest.mark.parametrize("guard", sabotage.GUARDS)
def test_a_switch_replaces_what_the_product_has(guard: str, before: Places) -> None:
    texts = script_texts()
    sabotage.GUARDS[guard]()
    after = places()
    replaced = {name for (owner, name), value in before.items() if after[owner, name] is not value}
    assert replaced, "nothing is switched off"
    added = {name for owner, name in after.keys() - before.keys()}
    assert not added, "the product does not use these names, so nothing is switched off"
    if "_script_text" in replaced:
        assert script_texts() != texts, "no script has the text any more that is taken out of it"


def test_every_guard_is_switched_off_by_a_row_that_must_turn_red() -> None:
    for module in pkgutil.iter_modules(tests.faults.__path__, "tests.faults."):
        if module.name.startswith("tests.faults.rows_guards"):
            importlib.import_module(module.name)
    off = {row.plan.variables[sabotage.VARIABLE]: row for row in rows() if sabotage.VARIABLE in row.plan.variables}
    assert off.keys() == sabotage.GUARDS.keys()
    assert all(row.red for row in off.values())


def test_no_two_switches_have_one_name() -> None:
    assert not sabotage_queue.GUARDS.keys() & sabotage_portal.GUARDS.keys()
