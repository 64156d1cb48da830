"""The chapter "What to do when" quotes what the code prints, and has every error that the code logs."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).resolve().parents[2]
TEXT = (CHECKOUT / "docs" / "operations.md").read_text("utf-8")
CHAPTER = TEXT.partition("## What to do when")[2].partition("\n## ")[0]
FILES = [
    path
    for part in ("b24offline", "tasks")
    for path in (CHECKOUT / part).rglob("*.py")
    if not {"emulator", "pipelines", "settings"} & set(path.relative_to(CHECKOUT).parts)
]
ELSEWHERE = {
    "alarm": "told above the tables",
    "heartbeat file cannot be written": "names its path",
    "changes whose events never came were found and are run": "docs/reconciliation.md",
}


def texts(node: ast.AST) -> Iterator[str]:
    """Yield every text of a syntax tree; what varies in one is `#`."""
    for part in ast.walk(node):
        if isinstance(part, ast.JoinedStr):
            yield "".join(str(each.value) if isinstance(each, ast.Constant) else "#" for each in part.values)
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def printed() -> str:
    """Return all texts of the code; a unit behind what varies is left out, as it is in `quoted`."""
    code = "\n".join(text for path in FILES for text in texts(ast.parse(path.read_text("utf-8"))))
    return re.sub(r"# (h|days)\b", "#", code)


def errors_in_logs() -> set[str]:
    """Return the constant messages of all `log.error` calls."""
    found = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "error":
                found |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    return found


def quoted() -> list[str]:
    """Return what the first cells of the chapter quote, without the numbers of the examples."""
    cells = [line.split("|")[1] for line in CHAPTER.splitlines() if line.startswith("| ")]
    return [
        re.sub(r"\b\d[\d.]*( h| days)?\b|\bONX\b", "#", text)
        for cell in cells
        for text in re.findall(r"`([^`]+)`", cell)
    ]


def test_what_the_chapter_quotes_is_what_the_code_prints() -> None:
    code = printed()
    missing = [part for text in quoted() for part in text.split("...") if part.strip() not in code]
    assert missing == []
    assert len(quoted()) > 30


def test_every_error_in_the_log_is_in_the_chapter() -> None:
    left_out = {text for text in errors_in_logs() if f"`{text}`" not in CHAPTER} - set(ELSEWHERE)
    assert left_out == set()
