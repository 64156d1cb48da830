"""What of the prelude each script keeps."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from b24offline.counters import OBSERVE_LUA
from b24offline.ledger import transitions

FOLDER = files("b24offline.ledger").joinpath("scripts")
SCRIPTS = sorted(file.name.removesuffix(".lua") for file in FOLDER.iterdir() if file.name.endswith(".lua"))
SCRIPTS.remove("prelude")
DEFINED = re.compile(r"^local (?:function )?(\w+)", re.MULTILINE)
PRELUDE = OBSERVE_LUA + FOLDER.joinpath("prelude.lua").read_text("utf-8")


def defined(text: str) -> set[str]:
    return set(DEFINED.findall(text))


def named(text: str) -> set[str]:
    code = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    return set(re.findall(r"[A-Za-z_]\w*", re.sub(r"'[^']*'", "", code)))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_keeps_all_that_it_names(name: str) -> None:
    body = FOLDER.joinpath(f"{name}.lua").read_text("utf-8")
    kept = transitions.needed(PRELUDE, body)
    assert (named(body) | named(kept)) & defined(PRELUDE) <= defined(kept)
    assert "LEDGERSCHEMA" in kept, "another schema would not be refused"


def test_a_small_script_is_small() -> None:
    assert len(transitions.needed(PRELUDE, "return now")) < 0.1 * len(PRELUDE)
