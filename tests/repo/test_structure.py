"""The shape of the code base, checked on its syntax trees: imports, sizes, docstrings, names."""

from __future__ import annotations

import ast
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CHECKOUT = Path(__file__).resolve().parents[2]
LAYERS = ("b24offline", "settings", "tasks", "pipelines")
MAX_LINES = 400
MAX_FUNCTION_LINES = 57
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}
CELERY_PACKAGES = {"celery", "kombu", "billiard", "vine"}
MAY_IMPORT_CELERY = {f"b24offline/{path}" for path in ("celery.py", "pipeline.py", "testing/run.py")}
"""Where the application and a pipeline's imports are offered."""


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


def celery_imports(path: str, tree: ast.Module) -> Iterator[str]:
    """Yield imports of Celery in the library, which knows nothing of it."""
    if not path.startswith("b24offline/") or path in MAY_IMPORT_CELERY:
        return
    package = ".".join(PurePosixPath(path).parent.parts)
    for name in sorted({name.split(".")[0] for name in imported(tree, package)} & CELERY_PACKAGES):
        yield f"{path} imports {name}"


def too_long_functions(path: str, tree: ast.Module) -> Iterator[str]:
    if path.partition("/")[0] not in LAYERS:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and (lines := node.end_lineno - node.lineno + 1) > MAX_FUNCTION_LINES:
            yield f"{path}:{node.lineno} {node.name} has {lines} lines, more than {MAX_FUNCTION_LINES}"


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


def problems(files: Mapping[str, str]) -> list[str]:
    """Everything wrong in a tree of files, given as path inside the checkout and text."""
    found: list[str] = []
    for path, text in sorted(files.items()):
        found += [*too_long(path, text), *badly_named(path)]
        if path.endswith(".py"):
            tree = ast.parse(text, path)
            found += celery_imports(path, tree)
            found += without_docstring(path, tree)
            found += too_long_functions(path, tree)
    return found


def checkout_files() -> dict[str, str]:
    return {
        file.relative_to(CHECKOUT).as_posix(): file.read_text("utf-8")
        for folder in (*LAYERS, "tests", "benchmarks")
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
        ("b24offline/a.py", DOC + "from celery import Celery", "imports celery"),
        ("b24offline/a/b.py", DOC + "import kombu.pools", "imports kombu"),
        ("b24offline/a.py", DOC + f"def f():\n    {DOC}" + "    x = 1\n" * 56, "f has 58 lines"),
        ("b24offline/a.py", "x = 1", "has no docstring"),
        ("b24offline/a.py", DOC + "def f(): ...", "f has no docstring"),
        ("tasks/a.py", DOC + "async def f(): ...", "f has no docstring"),
        ("pipelines/a.py", DOC + "class A: ...", "A has no docstring"),
        ("settings/a.py", DOC + f"class A:\n    {DOC}    def f(self): ...", "A.f has no docstring"),
    ],
)
def test_each_check_can_fail(path: str, text: str, complaint: str) -> None:
    found = problems({path: text})
    assert len(found) == 1
    assert complaint in found[0]
