"""The rooms: who imports whom, through which door, and where tables and queue calls may be written.

The table at the top of `docs/architecture.md` is the rule book; each rule is shown to fail on a made-up tree. That
Redis keys have one place is held by `test_ledger_keys.py`.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGE = "b24offline"
OFFERS = {"__init__", "__main__"}
"""What the package offers to whoever imports or runs it; nobody inside imports these."""
LINKED = ("tasks", "pipelines", "settings")
"""Folders of the checkout that are imported as parts of the package."""
TABLE_FILES = {"b24offline/store/schema.py", "b24offline/store/mirror.py"}
QUEUE_FILES = {"b24offline/rest/offline_queue.py"}


def room_of(path: str) -> str:
    """Return the room of a file: its folder within the package, or the module itself at the top of it."""
    parts = PurePosixPath(path).parts
    if parts[0] != PACKAGE:
        return parts[0]
    return parts[1] if len(parts) > 2 else PurePosixPath(parts[1]).stem


def imports(path: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield (room, module below the package) of everything of the package that a file imports; typing imports, too."""
    for node in ast.walk(ast.parse(text, path)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module = str(node.module)
            modules = [f"{module}.{alias.name}" for alias in node.names] if module == PACKAGE else [module]
        else:
            continue
        for module in modules:
            first, _, below = module.partition(".")
            if first == PACKAGE and below:
                yield below.split(".")[0], below


def rule_book(text: str) -> dict[str, set[str]]:
    """Return room -> rooms it may import, of the table in the document."""
    rows = re.findall(r"^\| \d \| `([\w/.]+)` \|[^|]*\|([^|]*)\|$", text, re.MULTILINE)
    return {room.strip("/").removesuffix(".py"): set(re.findall(r"`([\w]+)`", allowed)) for room, allowed in rows}


def floors(text: str) -> dict[str, int]:
    """Return room -> floor, of the same table."""
    rows = re.findall(r"^\| (\d) \| `([\w/.]+)` \|", text, re.MULTILINE)
    return {room.strip("/").removesuffix(".py"): int(floor) for floor, room in rows}


def wrong_direction(files: Mapping[str, str], allowed: Mapping[str, set[str]]) -> list[str]:
    """Return the imports that the rule book does not allow, and entries of it that nothing needs."""
    used: dict[str, set[str]] = defaultdict(set)
    found = []
    for path, text in files.items():
        room = room_of(path)
        if room in OFFERS:
            continue
        if room not in allowed:
            found.append(f"{path}: room {room} is not in docs/architecture.md")
            continue
        for other, _ in imports(path, text):
            if other != room:
                used[room].add(other)
                if other not in allowed[room]:
                    found.append(f"{path} imports {other}, which {room} may not")
    present = {room_of(path) for path in files}
    for room in sorted(set(allowed) & present):
        found += [f"docs/architecture.md: {room} needs no {other}" for other in sorted(allowed[room] - used[room])]
    return found


def circles(allowed: Mapping[str, set[str]], floor: Mapping[str, int]) -> list[str]:
    """Return the rooms whose allowed imports go up, or lead back to them."""
    found = [
        f"{room} may import {other}, which is above it"
        for room, others in allowed.items()
        for other in others
        if floor[other] > floor[room]
    ]
    for room in allowed:
        reached, todo = set(), [room]
        while todo:
            for other in allowed.get(todo.pop(), ()):
                if other == room:
                    found.append(f"{room} is in a circle")
                if other not in reached:
                    reached.add(other)
                    todo.append(other)
    return found


def inner_circles(files: Mapping[str, str]) -> list[str]:
    """Return the modules of one room that import each other in a circle."""
    graph: dict[str, set[str]] = {}
    for path, text in files.items():
        module = ".".join(PurePosixPath(path.removeprefix(f"{PACKAGE}/")).with_suffix("").parts)
        if not module.endswith("__init__"):
            graph[module] = {below for other, below in imports(path, text) if other == room_of(path)} - {module}
    found = []
    for module in graph:
        reached, todo = set(), [module]
        while todo:
            for other in graph.get(todo.pop(), ()):
                if other == module:
                    found.append(f"{module} is in a circle")
                elif other not in reached:
                    reached.add(other)
                    todo.append(other)
    return sorted(set(found))


def past_the_door(files: Mapping[str, str]) -> list[str]:
    """Return the imports of a module inside another room; `tasks` has no door, as Celery imports its modules."""
    return [
        f"{path} imports {below}: import it from {PACKAGE}.{other}"
        for path, text in files.items()
        for other, below in imports(path, text)
        if "." in below and other != room_of(path) and other not in LINKED
    ]


def bad_doors(files: Mapping[str, str]) -> list[str]:
    """Return the `__init__.py` files of rooms that hold more than imports and a sorted `__all__`."""
    found = []
    for path, text in files.items():
        if not path.endswith("__init__.py") or path == f"{PACKAGE}/__init__.py" or room_of(path) in LINKED:
            continue
        body = [node for node in ast.parse(text).body if not isinstance(node, ast.ImportFrom)]
        if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            body = body[1:]
        if not text.strip() or not (len(body) == 1 and isinstance(body[0], ast.Assign)):
            found.append(f"{path} holds something else than imports and __all__")
            continue
        names = [element.value for element in getattr(body[0].value, "elts", [])]
        imported = {
            alias.asname or alias.name
            for node in ast.parse(text).body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        if set(names) != imported:
            found.append(f"{path}: __all__ and the imports differ: {sorted(set(names) ^ imported)}")
    return found


def misplaced(files: Mapping[str, str]) -> list[str]:
    """Return tables and queue calls outside the one file that may write them."""
    found = []
    for path, text in files.items():
        if path.startswith("b24offline/emulator/"):
            continue
        tree = ast.parse(text, path)
        documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            where = f"{path}:{getattr(node, 'lineno', 0)}"
            table = isinstance(node, ast.Call) and _called(node) == "Table" and _imports_sqlalchemy(tree)
            if table and path not in TABLE_FILES:
                found.append(f"{where} makes a table: that is for b24offline/store/schema.py")
            named = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            if named.lower().startswith("event.offline.") and id(node) not in documents and path not in QUEUE_FILES:
                found.append(f"{where} names {named}: that is for b24offline/rest/offline_queue.py")
    return found


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _imports_sqlalchemy(tree: ast.Module) -> bool:
    return any(
        (isinstance(node, ast.ImportFrom) and str(node.module).startswith("sqlalchemy"))
        or (isinstance(node, ast.Import) and any(alias.name.startswith("sqlalchemy") for alias in node.names))
        for node in ast.walk(tree)
    )


def thick_tasks(files: Mapping[str, str]) -> list[str]:
    """Return Redis calls and SQL in `tasks`."""
    found = []
    for path, text in files.items():
        if not path.startswith("tasks/"):
            continue
        for node in ast.walk(ast.parse(text, path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                if name.split(".")[0] in {"redis", "sqlalchemy"}:
                    found.append(f"{path}:{node.lineno} imports {name}")  # type: ignore[attr-defined]
            if isinstance(node, ast.Attribute) and node.attr in {"redis", "_redis", "engine", "transition"}:
                found.append(f"{path}:{node.lineno} reaches for .{node.attr}")
    return found


def product() -> dict[str, str]:
    """Return every Python file of the product by its path in the checkout; nothing twice through a link."""
    folders = [CHECKOUT / PACKAGE, *(CHECKOUT / folder for folder in LINKED)]
    return {
        file.relative_to(CHECKOUT).as_posix(): file.read_text("utf-8")
        for folder in folders
        for file in sorted(folder.rglob("*.py"))
        if not (folder.name == PACKAGE and file.relative_to(folder).parts[0] in LINKED)
    }


def users() -> dict[str, str]:
    """Return the files of demo and tests that work with whole rooms; a unit test may look into its own."""
    folders = ("demo", "benchmarks", "tests/support", "tests/e2e", "tests/faults", "tests/model", "tests/compose")
    return {
        file.relative_to(CHECKOUT).as_posix(): file.read_text("utf-8")
        for folder in folders
        for file in sorted((CHECKOUT / folder).rglob("*.py"))
    }


BOOK = (CHECKOUT / "docs" / "architecture.md").read_text("utf-8")


def test_every_import_is_in_the_map_and_the_map_has_no_more() -> None:
    assert wrong_direction(product(), rule_book(BOOK)) == []


def test_the_map_goes_down_without_circles() -> None:
    assert len(rule_book(BOOK)) > 15
    assert circles(rule_book(BOOK), floors(BOOK)) == []
    assert inner_circles(product()) == []


def test_rooms_are_entered_through_their_doors() -> None:
    assert past_the_door({**product(), **users()}) == []
    assert bad_doors(product()) == []


def test_tables_and_queue_calls_have_one_place() -> None:
    assert misplaced(product()) == []


def test_tasks_hold_no_redis_call_and_no_sql() -> None:
    assert thick_tasks(product()) == []


MAP = {"rest": {"events"}, "events": set(), "tasks": {"rest"}}
HEIGHT = {"events": 2, "rest": 3, "tasks": 6}


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("b24offline/events/a.py", "from b24offline.rest import X", "which events may not"),
        ("b24offline/events/a.py", "def f():\n    import b24offline.rest", "which events may not"),
        ("b24offline/rest/a.py", "x = 1", "rest needs no events"),
        ("b24offline/cellar/a.py", "x = 1", "not in docs/architecture.md"),
        (
            "b24offline/events/a.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from b24offline.rest import X",
            "which events may not",
        ),
    ],
)
def test_a_wrong_direction_is_found(path: str, text: str, complaint: str) -> None:
    assert complaint in "".join(wrong_direction({path: text}, MAP))


def test_circles_and_ways_up_are_found() -> None:
    assert circles(MAP, HEIGHT) == []
    assert circles({**MAP, "events": {"rest"}}, HEIGHT)
    assert circles({"a": {"b"}, "b": {"a"}}, {"a": 1, "b": 1})
    two = {
        "b24offline/rest/a.py": "from b24offline.rest.b import X",
        "b24offline/rest/b.py": "from b24offline.rest.a import Y",
    }
    assert inner_circles(two) == ["rest.a is in a circle", "rest.b is in a circle"]


def test_a_way_past_the_door_is_found() -> None:
    assert past_the_door({"b24offline/delivery/a.py": "from b24offline.rest.client import X"})
    assert past_the_door({"tasks/a.py": "from b24offline.rest.client import X"})
    assert not past_the_door({"b24offline/rest/a.py": "from b24offline.rest.client import X"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "from b24offline.rest.a import X\n\nY = 1\n\n__all__ = ['X']",
        "from b24offline.rest.a import X\n\n__all__ = []",
        "from b24offline.rest.a import X\n\n__all__ = ['X', 'Y']",
    ],
)
def test_a_door_with_more_than_names_is_found(text: str) -> None:
    assert bad_doors({"b24offline/rest/__init__.py": text})


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("b24offline/delivery/a.py", "import sqlalchemy as sa\nT = sa.Table('x')"),
        ("b24offline/delivery/a.py", "call('event.offline.get')"),
        ("tasks/a.py", "call(f'Event.Offline.{verb}')"),
    ],
)
def test_tables_and_queue_calls_elsewhere_are_found(path: str, text: str) -> None:
    assert misplaced({path: text})


@pytest.mark.parametrize("text", ["import redis", "from sqlalchemy import select", "runtime.redis.get('x')"])
def test_thick_tasks_are_found(text: str) -> None:
    assert thick_tasks({"tasks/a.py": text})
