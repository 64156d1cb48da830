"""The table of metrics is that of the code."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from b24offline.metrics import DEFINITIONS
from tools.metrics_docs import BEGIN, END, main, renewed

CHECKOUT = Path(__file__).resolve().parents[2]


def test_the_table_is_up_to_date_and_has_every_metric() -> None:
    text = (CHECKOUT / "docs" / "metrics.md").read_text("utf-8")
    assert renewed(text) == text
    assert {name for name in DEFINITIONS if f"`b24offline_{name}`" not in text} == set()


def test_check_notices_a_difference_and_writing_mends_it(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    document = tmp_path / "docs" / "metrics.md"
    document.write_text(f"# Metrics\n{BEGIN}old\n{END}after\n")
    where = ["--checkout", str(tmp_path)]
    missing = CliRunner().invoke(main, ["--check", *where])
    assert missing.exit_code == 1
    assert "differs from the code" in missing.output
    assert CliRunner().invoke(main, where).exit_code == 0
    assert CliRunner().invoke(main, ["--check", *where]).exit_code == 0
    assert document.read_text().endswith("after\n")


def test_a_document_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the marks"):
        renewed("# Metrics\n")
