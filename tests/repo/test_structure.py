"""The shape of the code base, checked on its syntax trees: imports, sizes, docstrings, names."""

from __future__ import annotations

import ast
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

CHECKOUT = Path(__file__).resolve().parents[2]
LAYERS = ("b24offline", "settings", "tasks", "pipelines")
MAX_LINES = 400
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}
CELERY_PACKAGES = {"celery", "kombu", "billiard", "vine"}
MAY_IMPORT_CELERY = {f"b24offline/{path}" for path in ("celery.py", "pipeline.py")}
"""Where the application and a pipeline's imports are offered."""
MAY_IMPORT_RIGHT = MAY_IMPORT_CELERY
MAY_NAME_QUEUE_CALLS = {"b24offline/rest/offline_queue.py", "b24offline/emulator/api/*"}
QUEUE_CALL = "event.offline."
EMULATOR_MAY_IMPORT = {"werkzeug", "waitress"}
EMULATOR_CLIENT_MAY_IMPORT = EMULATOR_MAY_IMPORT | {"requests"}


def matches(path: str, patterns: Iterable[str]) -> bool:
    return any(PurePosixPath(path).match(pattern) for pattern in patterns)


def imported(tree: ast.Module, package: str) -> Iterator[str]:
    """Dotted names that a module imports; relative ones are resolved within its package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def too_long(path: str, text: str) -> Iterator[str]:
    if (lines := len(text.splitlines())) > MAX_LINES:
        yield f"{path} has {lines} lines, more than {MAX_LINES}"


def badly_named(path: str) -> Iterator[str]:
    for part in PurePosixPath(path).with_suffix("").parts:
        if part.lower().strip("_") in BANNED_NAMES:
            yield f"{path} is named after no concept"


def wrong_imports(path: str, tree: ast.Module) -> Iterator[str]:
    layer = path.partition("/")[0]
    package = ".".join(PurePosixPath(path).parent.parts)
    names = {name.removeprefix("b24offline.") for name in imported(tree, package)}
    tops = {name.split(".")[0] for name in names}
    if layer in LAYERS and not matches(path, MAY_IMPORT_RIGHT):
        for right in LAYERS[LAYERS.index(layer) + 1 :]:
            if right in tops:
                yield f"{path} imports {right}, which is right of it"
    if layer == "b24offline" and not matches(path, MAY_IMPORT_CELERY):
        for name in sorted(tops & CELERY_PACKAGES):
            yield f"{path} imports {name}"


def emulator_imports(path: str, tree: ast.Module, stdlib: Iterable[str]) -> Iterator[str]:
    if not path.startswith("b24offline/emulator/"):
        return
    allowed = EMULATOR_CLIENT_MAY_IMPORT if path.endswith("/client.py") else EMULATOR_MAY_IMPORT
    foreign = [
        name
        for name in sorted(set(imported(tree, ".".join(PurePosixPath(path).parent.parts))))
        if name != "b24offline.emulator" and not name.startswith("b24offline.emulator.")
        if name.partition(".")[0] not in {*allowed, *stdlib}
    ]
    if foreign:
        yield f"{path} imports {', '.join(foreign)}: the emulator stands alone"


def without_docstring(path: str, tree: ast.Module) -> Iterator[str]:
    def visit(owner: ast.Module | ast.ClassDef, prefix: str) -> Iterator[str]:
        for node in owner.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith(
                "_"
            ):
                overload = any("overload" in ast.unparse(decorator) for decorator in node.decorator_list)
                if not ast.get_docstring(node) and not overload:
                    yield f"{path}:{node.lineno} {prefix}{node.name} has no docstring"
                if isinstance(node, ast.ClassDef):
                    yield from visit(node, f"{prefix}{node.name}.")

    if path.partition("/")[0] not in LAYERS or PurePosixPath(path).name == "__main__.py":
        return
    if not ast.get_docstring(tree) and (tree.body or PurePosixPath(path).name != "__init__.py"):
        yield f"{path} has no docstring"
    yield from visit(tree, "")


def queue_calls(path: str, tree: ast.Module) -> Iterator[str]:
    """Name of queue methods outside the guarded client; docstrings may speak of them."""
    if path.partition("/")[0] not in LAYERS or matches(path, MAY_NAME_QUEUE_CALLS):
        return
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in bare:
            continue
        if node.value.lower().startswith(QUEUE_CALL):
            yield f"{path}:{node.lineno} names {node.value}: that is for the guarded queue client"


def stores_in_tasks(path: str, tree: ast.Module) -> Iterator[str]:
    """Yield a task loads, makes one call into the library, and records: no Redis call, no SQL."""
    if not path.startswith("tasks/"):
        return
    tops = {name.partition(".")[0] for name in imported(tree, "tasks")}
    for name in sorted(tops & {"redis", "sqlalchemy"}):
        yield f"{path} imports {name}: that is for the library"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in {"redis", "engine"}:
            yield f"{path}:{node.lineno} uses .{node.attr}: that is for the library"


def problems(files: Mapping[str, str]) -> list[str]:
    """Everything wrong in a tree of files, given as path inside the checkout and text."""
    found: list[str] = []
    for path, text in sorted(files.items()):
        found += [*too_long(path, text), *badly_named(path)]
        if path.endswith(".py"):
            tree = ast.parse(text, path)
            found += wrong_imports(path, tree)
            found += emulator_imports(path, tree, sys.stdlib_module_names)
            found += without_docstring(path, tree)
            found += queue_calls(path, tree)
            found += stores_in_tasks(path, tree)
    return found


def checkout_files() -> dict[str, str]:
    return {
        file.relative_to(CHECKOUT).as_posix(): file.read_text("utf-8")
        for folder in (*LAYERS, "tests")
        for pattern in ("*.py", "*.lua")
        for file in (CHECKOUT / folder).rglob(pattern)
    }


def test_the_code_base_has_its_shape() -> None:
    files = checkout_files()
    assert len(files) > 20
    assert problems(files) == []


DOC = '"""D."""\n'


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("b24offline/a.py", DOC + "x = 1\n" * MAX_LINES, "has 401 lines"),
        ("tests/unit/test_a.py", "x = 1\n" * (MAX_LINES + 1), "has 401 lines"),
        ("b24offline/ledger/scripts/a.lua", "-- x\n" * (MAX_LINES + 1), "has 401 lines"),
        ("b24offline/utils.py", DOC, "named after no concept"),
        ("tests/helpers/a.py", DOC, "named after no concept"),
        ("tasks/manager.py", DOC, "named after no concept"),
        ("b24offline/a.py", DOC + "import b24offline.tasks.poll", "imports tasks"),
        ("b24offline/a.py", DOC + "def _f():\n    from b24offline.settings import config", "imports settings"),
        ("settings/a.py", DOC + "from b24offline.tasks import poll", "imports tasks"),
        ("tasks/a.py", DOC + "from b24offline import pipelines", "imports pipelines"),
        ("b24offline/a.py", DOC + "from celery import Celery", "imports celery"),
        ("b24offline/a/b.py", DOC + "import kombu.pools", "imports kombu"),
        ("b24offline/emulator/a.py", DOC + "from b24offline import event", "stands alone"),
        ("b24offline/emulator/a.py", DOC + "from ..event import JSON", "stands alone"),
        ("b24offline/emulator/a.py", DOC + "from .. import errors", "stands alone"),
        ("b24offline/emulator/a.py", DOC + "import requests", "stands alone"),
        ("b24offline/a.py", "x = 1", "has no docstring"),
        ("b24offline/a.py", DOC + "def f(): ...", "f has no docstring"),
        ("tasks/a.py", DOC + "async def f(): ...", "f has no docstring"),
        ("pipelines/a.py", DOC + "class A: ...", "A has no docstring"),
        ("settings/a.py", DOC + f"class A:\n    {DOC}    def f(self): ...", "A.f has no docstring"),
        ("b24offline/a.py", DOC + 'x = "event.offline.get"', "guarded queue client"),
        ("tasks/a.py", DOC + 'call(f"event.offline.{verb}")', "guarded queue client"),
        ("b24offline/a.py", DOC + 'call("Event.Offline.clear")', "guarded queue client"),
        ("tasks/a.py", DOC + "from redis.exceptions import ResponseError", "imports redis"),
        ("tasks/a.py", DOC + "def _f():\n    import sqlalchemy as sa", "imports sqlalchemy"),
        ("tasks/a.py", DOC + "here.redis.set('a', 1)", "uses .redis"),
        ("tasks/a.py", DOC + "redis = runtime().redis", "uses .redis"),
        ("tasks/a.py", DOC + "here.store.engine.begin()", "uses .engine"),
    ],
)
def test_each_check_can_fail(path: str, text: str, complaint: str) -> None:
    found = problems({path: text})
    assert len(found) == 1
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("b24offline/a.py", DOC + "x = 1\n" * (MAX_LINES - 1)),
        ("b24offline/__init__.py", ""),
        ("b24offline/celery.py", DOC + "from b24offline.tasks.celery_app import app\nimport celery"),
        ("b24offline/a.py", DOC + "from b24offline import event\nfrom . import errors"),
        ("tasks/a.py", DOC + "import celery\nfrom b24offline.settings import config\nfrom b24offline import event"),
        ("settings/celeryconfig.py", DOC + "from kombu import Queue"),
        ("pipelines/a.py", DOC + "from b24offline.tasks import objects"),
        (
            "b24offline/emulator/a.py",
            DOC + "import json, werkzeug\nfrom . import queue\nfrom b24offline.emulator import x",
        ),
        ("b24offline/emulator/client.py", DOC + "import requests"),
        ("b24offline/emulator/api/router.py", DOC + 'x = "event.offline.get"'),
        ("b24offline/rest/offline_queue.py", DOC + 'x = "event.offline.get"'),
        ("b24offline/a.py", '"""event.offline.get is dangerous."""\n'),
        ("b24offline/a.py", DOC + "def _f(): ...\nclass _A:\n    def f(self): ..."),
        ("tests/unit/test_a.py", "from b24offline.pipelines import crm\nx = 'event.offline.get'\ndef test_a(): ..."),
    ],
)
def test_what_is_allowed_passes(path: str, text: str) -> None:
    assert problems({path: text}) == []
