"""The page of settings and the example say what the code says."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from b24offline.config import Config, variables
from tools.generated import outdated
from tools.settings_docs import documents, main

CHECKOUT = Path(__file__).resolve().parents[2]


def test_the_committed_documents_are_up_to_date() -> None:
    assert outdated(CHECKOUT, documents()) == []


def test_every_variable_is_in_both_documents() -> None:
    for text in documents().values():
        for variable in variables(Config):
            assert (variable.name in text) == variable.public
            assert (f"{variable.name}_FILE" in text) == variable.secret


def test_the_example_as_it_stands_and_with_its_defaults_set_is_a_right_configuration() -> None:
    lines = documents()[".env.example"].splitlines()
    assert all(line.startswith("#") or not line for line in lines)
    settings = dict(line[1:].split("=", 1) for line in lines if line.startswith(("#B24_", "#CELERY_")))
    assert list(settings) == [variable.name for variable in variables(Config) if variable.public]
    assert Config.load(settings) == Config.load({})


def test_check_notices_a_difference_and_writing_mends_it(tmp_path: Path) -> None:
    where = ["--checkout", str(tmp_path)]
    missing = CliRunner().invoke(main, ["--check", *where])
    assert missing.exit_code == 1
    assert "differ from the code" in missing.output
    assert CliRunner().invoke(main, where).exit_code == 0
    assert CliRunner().invoke(main, ["--check", *where]).exit_code == 0
    (tmp_path / ".env.example").write_text("B24_BATCH_SIZE=1\n")
    assert CliRunner().invoke(main, ["--check", *where]).exit_code == 1
