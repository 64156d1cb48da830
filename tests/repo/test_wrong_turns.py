"""Every wrong turn of a first start has a test of its sentence and exit status, and the quickstart quotes sentences
that the code says.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
CLI = "tests/integration/cli"
TURNS = {
    "evicting Redis": (f"{CLI}/test_doctor.py", "test_an_evicting_redis_is_named"),
    "another deployment, while it lives": (f"{CLI}/test_doctor.py", "test_a_second_deployment_that_lives_is_found"),
    "another deployment, at the first start": (
        f"{CLI}/test_wrong_turns.py",
        "test_a_first_start_beside_another_deployments_records",
    ),
    "Redis down, nothing connected": (f"{CLI}/test_doctor.py", "test_status_with_no_portal_tells_of_a_ledger_that"),
    "Redis down, up": (f"{CLI}/test_wrong_turns.py", "test_up_says_that_redis_is_away_and_waits_for_it"),
    "Redis and broker down": (f"{CLI}/test_doctor.py", "test_before_the_first_start_each_thing_that_is_missing"),
    "broker down": (f"{CLI}/test_doctor_servers.py", "test_a_broker_that_is_away_is_named"),
    "wrong password": (f"{CLI}/test_doctor_servers.py", "test_a_wrong_password_is_named"),
    "a stranger's certificate": (f"{CLI}/test_doctor_servers.py", "test_a_stranger_in_the_place_of_a_server_is_named"),
    "full disk": (f"{CLI}/test_doctor.py", "test_a_full_disk_is_named"),
    "syntax error, doctor": (f"{CLI}/test_doctor.py", 'id="syntax"'),
    "syntax error, worker": ("tests/e2e/test_start.py", "test_a_mistake_in_a_pipeline_is_a_sentence_with_its_line"),
    "duplicate names": (f"{CLI}/test_doctor.py", 'id="duplicate"'),
    "external queue not configured": (f"{CLI}/test_doctor.py", 'id="external queue"'),
    "webhook": (f"{CLI}/test_auth.py", "is the address of a webhook"),
    "wrong secret": (f"{CLI}/test_auth.py", 'id="secret"'),
    "expired code": (f"{CLI}/test_auth.py", 'id="expired code"'),
    "no administrator, auth": (f"{CLI}/test_auth.py", 'id="no administrator"'),
    "no administrator, doctor": (f"{CLI}/test_doctor.py", 'id="user"'),
    "plan without the feature, auth": (f"{CLI}/test_auth.py", 'id="plan"'),
    "plan without the feature, doctor": (f"{CLI}/test_doctor.py", 'id="plan"'),
    "dead refresh token": (f"{CLI}/test_doctor.py", 'id="dead refresh token"'),
}
"""Turn -> file and test, or the case of a test."""
STATUS = re.compile(r"\bcode\b|returncode|expect_failures")
ROWS = re.findall(r"^\| `([^`]+)`", (CHECKOUT / "docs/quickstart.md").read_text("utf-8"), re.MULTILINE)
SAID = "".join(path.read_text("utf-8") for path in (CHECKOUT / "b24offline").rglob("*.py"))


@pytest.mark.parametrize("turn", TURNS)
def test_a_wrong_turn_has_a_test_of_its_exit_status(turn: str) -> None:
    file, test = TURNS[turn]
    text = (CHECKOUT / file).read_text("utf-8")
    assert text.count(test) == 1, f"{test} in {file}"
    body = re.split(r"^def (?!_)", text[text.index(test) :], maxsplit=2, flags=re.MULTILINE)
    assert STATUS.search("".join(body[:2])), f"{test} judges no exit status"


@pytest.mark.parametrize("row", ROWS)
def test_the_quickstart_quotes_what_is_said(row: str) -> None:
    assert re.search(r"\{.*?\}".join(map(re.escape, row.split("..."))), SAID, re.DOTALL), row
