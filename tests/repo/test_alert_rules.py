"""The alert rules are those of the code: one for each issue that `status` can name, each with its runbook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from b24offline.monitoring import IssueCode
from tests.support.prometheus import promtool
from tools.alert_rules import EXPORTER_ALERTS, PATH, alert_name, documents
from tools.generated import outdated

CHECKOUT = Path(__file__).resolve().parents[2]
RULES = CHECKOUT / PATH
ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]
]
MINUTES = 10


def slug(heading: str) -> str:
    """Return the anchor of a heading, as GitHub and the site make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def test_the_rules_are_up_to_date() -> None:
    assert outdated(CHECKOUT, documents()) == []


def test_every_issue_is_an_alert_and_every_alert_an_issue() -> None:
    of_issues = {rule["labels"]["issue"]: rule["alert"] for rule in ALERTS if "issue" in rule["labels"]}
    assert of_issues == {code.value: alert_name(code) for code in IssueCode}
    others = {rule["alert"] for rule in ALERTS} - set(of_issues.values())
    assert others == {alert.name for alert in EXPORTER_ALERTS}
    assert len(ALERTS) == len({rule["alert"] for rule in ALERTS})


@pytest.mark.parametrize("rule", ALERTS, ids=[rule["alert"] for rule in ALERTS])
def test_every_alert_has_a_runbook_that_is_there(rule: dict[str, Any]) -> None:
    path, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.*)$", (CHECKOUT / path).read_text("utf-8"), re.MULTILINE)
    assert anchor in {slug(heading) for heading in headings}
    assert rule["labels"]["severity"] in {"page", "ticket"}


def test_promtool_takes_the_rules() -> None:
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", str(RULES))


def scenario(series: dict[str, str], at: str, fires: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a test of promtool: at that time, these alerts of all fire."""
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {
                "eval_time": at,
                "alertname": rule["alert"],
                "exp_alerts": [fires[rule["alert"]]] if rule["alert"] in fires else [],
            }
            for rule in ALERTS
        ],
    }


def expected(name: str, value: int, **labels: str) -> dict[str, Any]:
    (rule,) = [rule for rule in ALERTS if rule["alert"] == name]
    texts = {
        key: text.replace("{{ $value }}", str(value)).replace("{{ $labels.part }}", labels.get("part", ""))
        for key, text in rule["annotations"].items()
    }
    return {"exp_labels": {**rule["labels"], **labels}, "exp_annotations": texts}


def all_series(**changed: str) -> dict[str, str]:
    parts = {f'b24offline_up{{part="{part}"}}': f"1x{MINUTES}" for part in ("ledger", "store", "broker")}
    codes = {f'b24offline_issues{{code="{code}"}}': f"0x{MINUTES}" for code in IssueCode}
    return {**parts, **codes, **changed}


def test_promtool_sees_each_alert_fire_alone_and_none_too_soon(tmp_path: Path) -> None:
    tests = [scenario(all_series(), "5m", {})]
    for code in IssueCode:
        begun = all_series(**{f'b24offline_issues{{code="{code}"}}': "0 0 3x8"})
        name = alert_name(code)
        tests.append(scenario(begun, "3m", {}))
        tests.append(scenario(begun, "5m", {name: expected(name, 3, code=code.value)}))
        over = all_series(**{f'b24offline_issues{{code="{code}"}}': "3 3 3 3 0x6"})
        tests.append(scenario(over, "5m", {}))
    gone = {name: values for name, values in all_series().items() if "issues" in name}
    tests.append(scenario(gone, "5m", {"B24OfflineExporterDown": expected("B24OfflineExporterDown", 0)}))
    down = all_series(**{'b24offline_up{part="store"}': f"0x{MINUTES}"})
    tests.append(scenario(down, "5m", {"B24OfflinePartDown": expected("B24OfflinePartDown", 0, part="store")}))
    file = tmp_path / "rules_test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    assert "SUCCESS" in promtool("test", "rules", str(file))


def test_promtool_notices_a_rule_that_does_not_fire(tmp_path: Path) -> None:
    name = alert_name(IssueCode.NOT_POLLED)
    wrong = [scenario(all_series(), "5m", {name: expected(name, 3, code="not_polled")})]
    file = tmp_path / "rules_test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": wrong}))
    with pytest.raises(AssertionError, match="FAILED"):
        promtool("test", "rules", str(file))
