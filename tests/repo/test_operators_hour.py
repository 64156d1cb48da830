"""The operator's hour names alerts that there are, and remedies that their runbooks ask for; its page is its table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.compose.engine import Failed
from tests.compose.injuries import FAULTS, PREFIX, Fault
from tests.compose.operate import BEGIN, END, INTERVALS, PAGE, rules_folder, section
from tests.support.prometheus import promtool

CHECKOUT = Path(__file__).resolve().parents[2]
RULES = {
    rule["alert"]: rule
    for group in yaml.safe_load((CHECKOUT / "deploy" / "prometheus" / "rules.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
}


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_the_runbook_of_a_fault_asks_for_its_remedy(fault: Fault) -> None:
    assert {PREFIX + name for name in fault.alerts} <= set(RULES)
    runbook = RULES[PREFIX + fault.alerts[0]]["annotations"]["runbook"]
    assert fault.says.lower() in section(runbook).lower()


def test_a_runbook_that_is_not_there_is_noticed() -> None:
    with pytest.raises(Failed, match="no such heading"):
        section("docs/symptoms.md#issue-nobody")


def test_only_waits_of_the_rules_are_shortened(tmp_path: Path) -> None:
    folder = rules_folder(tmp_path)
    text = (folder / "rules.yml").read_text("utf-8")
    shipped = (CHECKOUT / "deploy" / "prometheus" / "rules.yml").read_text("utf-8")
    assert text.replace("for: 12s", "for: 2m") == shipped
    config = folder / "prometheus.yml"
    assert all(interval in config.read_text("utf-8") for interval in INTERVALS.values())
    promtool("check", "config", str(config))


def test_the_page_has_rows_of_ten_faults_and_of_nothing_else() -> None:
    measured = PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    rows = re.findall(r"^\| (.+?) \|", measured, re.MULTILINE)[2:]
    assert rows == [fault.name for fault in FAULTS if fault.name in rows]
    assert len(rows) >= 10
