"""The sub-rooms of the emulator: what each may import, and that it stands alone. Doors: `tests/repo/test_rooms.py`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
ROOT = "b24offline.emulator"
MAY_IMPORT = {"state": (), "api": ("state",), "server": ("api", "state")}
"""Sub-room -> the sub-rooms that it may import; modules beside them may import all three."""
LIBRARIES = {"server": {"werkzeug", "waitress"}, "__main__": {"waitress"}, "client": {"requests"}}

Files = Mapping[str, str]
"""Dotted name of a module -> its text; a door is named as its sub-room."""


def room_of(module: str) -> str:
    """Return the sub-room of a module of the emulator, or its own name when it lies beside them."""
    return module.removeprefix(ROOT).lstrip(".").partition(".")[0]


def imports(module: str, files: Files) -> Iterator[str]:
    """Yield the modules that a module imports, also for type checking only."""
    for node in ast.walk(ast.parse(files[module])):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield inner if inner in files else source


def wrong_direction(module: str, files: Files) -> Iterator[str]:
    room = room_of(module)
    for name in imports(module, files):
        if not name.startswith(ROOT):
            if name.partition(".")[0] not in {*sys.stdlib_module_names, *LIBRARIES.get(room, ())}:
                yield f"{module} imports {name}: the emulator stands alone"
            continue
        target = room_of(name)
        if target == room:
            continue
        if target not in MAY_IMPORT and room in MAY_IMPORT:
            yield f"{module} imports {name}, which lies above it"
        elif room in MAY_IMPORT and target not in MAY_IMPORT[room]:
            yield f"{module} imports {target}, which lies above it"
        elif target in MAY_IMPORT and name != f"{ROOT}.{target}":
            yield f"{module} imports {name} and not the door of {target}"


def problems(files: Files) -> list[str]:
    return [line for module in sorted(files) for line in wrong_direction(module, files)]


def emulator_files() -> dict[str, str]:
    folder = CHECKOUT / "b24offline" / "emulator"
    return {
        ".".join(file.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__"): file.read_text("utf-8")
        for file in folder.rglob("*.py")
    }


def test_the_sub_rooms_keep_their_directions() -> None:
    files = emulator_files()
    assert {room_of(module) for module in files} == {"", *MAY_IMPORT, "client", "__main__"}
    assert problems(files) == []


@pytest.mark.parametrize(
    ("module", "text", "complaint"),
    [
        ("state.a", f"from {ROOT}.api import b", "imports api, which lies above"),
        ("state.a", f"if TYPE_CHECKING:\n    from {ROOT}.server import b", "imports server, which lies above"),
        ("api.a", f"def f():\n    from {ROOT}.server import b", "imports server, which lies above"),
        ("server.a", f"from {ROOT}.client import b", "imports b24offline.emulator.client, which lies above"),
        ("state.a", f"from {ROOT} import b", "imports b24offline.emulator, which lies above"),
        ("api.a", f"from {ROOT}.state.queue import b", "not the door of state"),
        ("__main__", f"from {ROOT}.server.app import b", "not the door of server"),
        ("api.a", "import werkzeug", "stands alone"),
        ("server.a", "import requests", "stands alone"),
        ("client", "from b24offline.events import b", "stands alone"),
        ("server.a", "from ...events import b", "stands alone"),
    ],
)
def test_each_rule_can_fail(module: str, text: str, complaint: str) -> None:
    (found,) = problems({f"{ROOT}.{module}": text})
    assert complaint in found
