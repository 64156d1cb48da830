"""The Russian README and quickstart are in step with the English ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKOUT = Path(__file__).resolve().parents[2]
PAIRS = ("README.md", "docs/quickstart.md")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def english(name: str) -> str:
    return (CHECKOUT / name).read_text("utf-8")


def russian(name: str) -> str:
    return (CHECKOUT / name.replace(".md", ".ru.md")).read_text("utf-8")


def code(text: str) -> list[tuple[str, str]]:
    """Return the blocks of a document: language, and text without comments, which are translated."""
    return [(language, re.sub(r" *# .*", "", body)) for language, body in FENCE.findall(text)]


def shape(text: str) -> list[str]:
    """Return the order of headings, blocks, tables, lists and pictures of a document."""
    lines = FENCE.sub("```", text).splitlines()
    marks = (re.match(r"#+ |```|\| |- |!\[", line) for line in lines)
    return [mark[0].strip() for mark in marks if mark]


def commands(text: str) -> set[str]:
    """Return what the prose of a document has as code: commands, names, messages. Breaks of a line count as blanks."""
    return {" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCE.sub("", text))}


def figures(text: str) -> list[str]:
    """Return the numbers in the prose of a document."""
    return sorted(re.findall(r"\b\d[\d.]*\b", re.sub(r"`[^`]+`|\]\([^)]*\)", "", FENCE.sub("", text))))


def share_of_cyrillic(text: str) -> float:
    """Return which part of the letters of the prose is Cyrillic; code and links do not count."""
    letters = re.findall(r"[^\W\d_]", re.sub(r"`[^`]+`|\]\([^)]*\)", "", FENCE.sub("", text)))
    return sum("\u0400" <= letter <= "\u04ff" for letter in letters) / len(letters)


@pytest.mark.parametrize("name", PAIRS)
def test_code_and_commands_are_the_same(name: str) -> None:
    assert code(russian(name)) == code(english(name))
    assert commands(russian(name)) == commands(english(name))
    assert len(code(english(name))) >= 4


@pytest.mark.parametrize("name", PAIRS)
def test_headings_tables_lists_and_figures_are_the_same(name: str) -> None:
    assert shape(russian(name)) == shape(english(name))
    assert figures(russian(name)) == figures(english(name))


@pytest.mark.parametrize("name", PAIRS)
def test_the_prose_is_russian_and_each_document_links_the_other(name: str) -> None:
    assert share_of_cyrillic(russian(name)) > 0.8 > 0.2 > share_of_cyrillic(english(name))
    other = Path(name).name
    assert f"]({other})" in russian(name)
    assert f"]({other.replace('.md', '.ru.md')})" in english(name)


SAMPLE = "## Serve\n\nAfter 180 s `b24offline status` ends.\n\n```sh\nb24offline doctor   # all\n```\n"


@pytest.mark.parametrize(
    ("written", "instead", "look"),
    [
        ("doctor ", "auth ", code),
        ("```sh", "```text", code),
        ("`b24offline status`", "`b24offline portal list`", commands),
        ("## Serve", "### Serve", shape),
        ("180 s", "120 s", figures),
    ],
)
def test_what_is_changed_in_one_of_them_only_is_seen(written: str, instead: str, look: Callable[[str], object]) -> None:
    assert look(SAMPLE.replace(written, instead)) != look(SAMPLE)
    assert code(SAMPLE.replace("# all", "# все")) == code(SAMPLE)
