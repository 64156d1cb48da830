"""The page "Operate by symptom" quotes what the code prints, and has every issue, and what the log warns of."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from b24offline.events import ObservedState
from b24offline.monitoring import IssueCode

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "docs" / "symptoms.md").read_text("utf-8")
QUOTES = PAGE.partition("## Issues")[2].partition("## Rows in Flower")[0]
FILES = [
    path
    for part in ("b24offline", "tasks")
    for path in (CHECKOUT / part).rglob("*.py")
    if not {"emulator", "pipelines", "settings"} & set(path.relative_to(CHECKOUT).parts)
]
PARTS = ("- **It means:** ", "- **Do:** ", "- **It ends:** ")


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


def logged(*levels: str) -> set[str]:
    """Return the constant messages of all log calls of these levels."""
    found = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in levels:
                found |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    return {str(text) for text in found}


def quoted() -> list[str]:
    """Return what the page says that somebody sees, without the numbers of the examples."""
    seen = [line for line in QUOTES.splitlines() if line.startswith("> ")]
    seen += [line.split("|")[1] for line in QUOTES.splitlines() if line.startswith("| ")]
    return [
        re.sub(r"\b\d[\d.]*( h| days)?\b|\bONX\b", "#", text)
        for cell in seen
        for text in re.findall(r"`([^`]+)`", cell)
    ]


def sections(heading: str) -> dict[str, str]:
    """Return code -> text of the sections of the page whose headings begin so."""
    found = re.split(rf"^#+ {heading}: `(\w+)`$|^#+ .*$", PAGE, flags=re.MULTILINE)
    return {code: text for code, text in zip(found[1::2], found[2::2], strict=True) if code}


def incomplete(text: str) -> bool:
    """Tell whether an entry lacks a quotation, its meaning, what to do, or how it ends, for each quotation."""
    seen = text.count("\n> `")
    return not seen or any(text.count(part) != seen for part in PARTS)


def test_what_the_page_quotes_is_what_the_code_prints() -> None:
    code = printed()
    missing = [part for text in quoted() for part in text.split("...") if part.strip() not in code]
    assert missing == []
    assert len(quoted()) > 60


def test_every_issue_has_its_entry_and_no_other_code_has_one() -> None:
    assert sorted(sections("Issue")) == sorted(IssueCode)


def test_every_state_of_a_portal_that_needs_somebody_has_its_entry() -> None:
    assert sorted(sections("State")) == sorted(set(ObservedState) - {ObservedState.ACTIVE})


def test_every_entry_says_what_is_seen_what_it_means_what_to_do_and_how_it_ends() -> None:
    entries = sections("Issue") | sections("State")
    assert [code for code, text in entries.items() if code != IssueCode.PORTAL_STATE and incomplete(text)] == []


def test_every_error_and_warning_in_the_log_is_on_the_page() -> None:
    assert {text for text in logged("error", "warning", "critical", "exception") if f"`{text}`" not in PAGE} == set()
    assert len(logged("error", "warning")) > 30


@pytest.mark.parametrize("left_out", [*PARTS, "> `said`"])
def test_an_entry_that_lacks_a_part_is_incomplete(left_out: str) -> None:
    entry = f"\n\n> `said`\n\n{PARTS[0]}a.\n{PARTS[1]}b.\n{PARTS[2]}c.\n"
    assert not incomplete(entry)
    assert incomplete(entry.replace(left_out, ""))
