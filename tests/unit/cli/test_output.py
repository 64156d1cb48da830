"""Tables for people: columns where they fit, paragraphs where a terminal is too narrow, and nothing cut off."""

from __future__ import annotations

import pytest

from b24offline.cli import output
from b24offline.cli.output import show_table

TITLES = ("portal", "event", "object", "reason")
ROWS = (
    ("acme", "ONCRMDEALUPDATE", "crm_deal 6", "[/red] ValueError: " + "words " * 12 + "end"),
    ("beta", "ONCRMLEADADD", "crm_lead 77", ""),
)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 60 columns."""
    monkeypatch.setattr(output, "terminal_columns", lambda: 60)


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_elsewhere_columns_are_as_wide_as_their_cells(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(TITLES, ROWS)
    lines = shown(capsys)
    assert lines[0].split() == list(TITLES)
    assert lines[1].endswith("words end")
    assert [line.index("crm_") for line in lines[1:]] == [lines[0].index("object")] * 2


def test_a_terminal_that_is_wide_enough_has_columns(terminal: None, capsys: pytest.CaptureFixture[str]) -> None:
    show_table(TITLES[:3], [row[:3] for row in ROWS])
    assert [len(line.split()) for line in shown(capsys)] == [3, 4, 4]


def test_a_narrow_terminal_has_paragraphs_in_which_nothing_is_missing(
    terminal: None, capsys: pytest.CaptureFixture[str]
) -> None:
    show_table(TITLES, [(row[0], row[1], row[2], row[3][:40]) for row in ROWS])
    lines = shown(capsys)
    assert max(map(len, lines)) <= 60
    assert lines[0] == "acme, event ONCRMDEALUPDATE, object crm_deal 6,"
    assert lines[1].strip() == f"reason {ROWS[0][3][:40]}".strip()
    assert lines[2] == "beta, event ONCRMLEADADD, object crm_lead 77"


def test_facts_stay_behind_their_names(terminal: None, capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("field", "value"), [("portal", "acme"), ("reason", ROWS[0][3])])
    lines = shown(capsys)
    assert lines[0] == "portal  acme"
    assert all(line.startswith(" " * 8) for line in lines[2:])
    assert max(map(len, lines)) <= 60
