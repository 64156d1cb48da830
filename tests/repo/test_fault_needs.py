"""What the fault rows need of the machine is told before the first of them is played."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.faults import __main__ as program
from tests.faults import playing
from tests.faults.playing import lacking
from tests.faults.row import Row

HERE = Path(__file__)
GONE = HERE.with_suffix(".gone")


def row(number: int, needs: Path | None = None) -> Row:
    return Row(number, "x", lambda stage: None, needs=needs, package="libfaketime")


@pytest.fixture
def without_rabbitmq(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playing, "server_binary", lambda: None)


@pytest.mark.usefixtures("without_rabbitmq")
def test_all_that_is_missing_is_named_once() -> None:
    chosen = [(row(30, GONE), "valkey"), (row(30, GONE), "valkey"), (row(1), "valkey"), (row(1), "rabbitmq")]
    assert lacking(chosen) == ["libfaketime", "rabbitmq-server"]


@pytest.mark.usefixtures("without_rabbitmq")
def test_what_no_chosen_row_needs_is_not_missed() -> None:
    assert lacking([(row(1), "valkey"), (row(30, HERE), "valkey")]) == []
    assert lacking([]) == []


@pytest.mark.usefixtures("without_rabbitmq")
def test_the_run_ends_at_once_with_one_line_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "known_rows", lambda: [row(1), row(12), row(30, GONE)])
    reply = CliRunner().invoke(program.main, [])
    assert reply.exit_code == 2
    assert reply.stderr == "These rows need what is not here: apt-get install libfaketime rabbitmq-server\n"
    assert CliRunner().invoke(program.main, ["--row", "30"]).stderr.endswith("apt-get install libfaketime\n")
    assert CliRunner().invoke(program.main, ["--row", "1"]).stderr.endswith("apt-get install rabbitmq-server\n")


@pytest.mark.usefixtures("without_rabbitmq")
def test_a_selection_that_needs_nothing_is_played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(program, "known_rows", lambda: [row(1), row(12), row(30, GONE)])
    played: list[int] = []
    monkeypatch.setattr(program, "play_all", lambda jobs, at_a_time: played.extend(job.index for job in jobs) or [])
    reply = CliRunner().invoke(program.main, ["--row", "12", "--json", str(tmp_path / "results.json")])
    assert played == [1]
    assert reply.stderr == ""
