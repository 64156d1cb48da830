"""The sub-rooms of the emulator: what each may import, their doors, no circle; and nobody enters but by the door."""

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
OUTSIDE = ("b24offline", "settings", "tasks", "pipelines", "demo", "examples", "tests")

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


def bad_door(module: str, files: Files) -> Iterator[str]:
    listed, imported = [], []
    for node in ast.parse(files[module]).body:
        if isinstance(node, ast.ImportFrom):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            listed += ast.literal_eval(node.value)
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            yield f"{module} is a door: imports and __all__ only"
    if sorted(listed) != sorted(imported):
        yield f"the __all__ of {module} does not name what it imports"


def circle(files: Files) -> Iterator[str]:
    left = {module: {name for name in imports(module, files) if name in files} for module in files}
    while free := [module for module, names in left.items() if not names & set(left)]:
        for module in free:
            del left[module]
    if left:
        yield f"imports in a circle: {', '.join(sorted(left))}"


def problems(files: Files) -> list[str]:
    doors = {ROOT, *(f"{ROOT}.{room}" for room in MAY_IMPORT)} & set(files)
    found = [line for module in sorted(files) for line in wrong_direction(module, files)]
    return [*found, *(line for door in sorted(doors) for line in bad_door(door, files)), *circle(files)]


def emulator_files() -> dict[str, str]:
    folder = CHECKOUT / "b24offline" / "emulator"
    return {
        ".".join(file.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__"): file.read_text("utf-8")
        for file in folder.rglob("*.py")
    }


def test_the_sub_rooms_keep_their_directions_and_doors() -> None:
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
        ("api.a", f"from {ROOT}.api.a import b", "in a circle"),
        ("state", '"""D."""\nfrom json import a\n__all__ = ["a"]\nx = 1', "imports and __all__ only"),
        ("state", "from json import a, b\n__all__ = ['a']", "does not name what it imports"),
        ("state", "from json import a", "does not name what it imports"),
    ],
)
def test_each_rule_can_fail(module: str, text: str, complaint: str) -> None:
    (found,) = problems({f"{ROOT}.{module}": text})
    assert complaint in found


def outsiders() -> Iterator[tuple[str, str]]:
    """Yield what is imported of the emulator by files outside of it and of its own tests."""
    for folder in OUTSIDE:
        for file in (CHECKOUT / folder).rglob("*.py"):
            path, text = file.relative_to(CHECKOUT).as_posix(), file.read_text("utf-8")
            inside = path.startswith(("b24offline/emulator/", "tests/unit/emulator/"))
            if "emulator" in text and not inside:
                yield from ((path, name) for name in imports(path, {path: text}) if name.startswith(ROOT))


def test_everybody_else_enters_by_the_door_of_the_emulator() -> None:
    entries = list(outsiders())
    assert len(entries) > 5
    assert [(path, name) for path, name in entries if name != ROOT] == []
