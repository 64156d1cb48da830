"""Keys are built in two places: `keys`, and the prelude of the scripts."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import b24offline
from b24offline import keys

FOLDER = Path(b24offline.__file__).parent
BUILT = re.compile(r"(stem|prefix|_key)\}{1,3}:|\}:\{\{\{")


def test_no_module_builds_a_key_by_itself() -> None:
    modules = [path for path in FOLDER.rglob("*.py") if "emulator" not in path.parts and path.name != "keys.py"]
    assert len(modules) > 50
    builders = {
        f"{path.name}: {line.strip()}"
        for path in modules
        for line in path.read_text("utf-8").splitlines()
        if BUILT.search(line)
    }
    assert builders == set()


def test_only_the_prelude_of_the_scripts_builds_keys() -> None:
    scripts = [
        script for script in files("b24offline.ledger").joinpath("scripts").iterdir() if script.name != "prelude.lua"
    ]
    assert len(scripts) > 20
    assert [script.name for script in scripts if "stem" in script.read_text("utf-8")] == []


def test_the_prelude_builds_the_same_keys() -> None:
    prelude = files("b24offline.ledger").joinpath("scripts", "prelude.lua").read_text("utf-8")
    of_portal = ("due", "batches", "fencing", "stats", "nacked", "orphans", "look")
    names = {getattr(keys, name)("s") for name in of_portal}
    names |= {keys.open_counts("s"), keys.run("s", ""), keys.batch("s", "")}
    assert {name for name in names if f"stem .. '{name.removeprefix('s')}'" not in prelude} == set()


def test_a_pattern_matches_one_portal_only() -> None:
    assert keys.pattern(keys.stem("b24offline", "a*[b]")) == r"b24offline:{a\*\[b\]}:*"
