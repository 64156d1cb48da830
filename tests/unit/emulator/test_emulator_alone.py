"""The emulator stands alone: it imports nothing of the product that is tested against it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import b24offline.emulator

FOLDER = Path(b24offline.emulator.__file__).parent
ALLOWED = {"b24offline.emulator", "werkzeug", "waitress"}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            yield from [f"{node.module}.{alias.name}" for alias in node.names]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_imports(path):
    allowed = ALLOWED | ({"requests"} if path.name == "client.py" else set())
    for name in imported(path):
        top = name.partition(".")[0]
        known = top in sys.stdlib_module_names or any(name == one or name.startswith(f"{one}.") for one in allowed)
        assert known, f"{path.name} imports {name}"
