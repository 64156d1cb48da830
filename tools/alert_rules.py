"""Writes `deploy/prometheus/rules.yml`: an alert for each code that `b24offline status` can name, and for the exporter.

`python -m tools.alert_rules` writes it; with `--check` it only says whether it is up to date.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from b24offline.monitoring import IssueCode
from tools.generated import Documents, writer

PATH: Final = "deploy/prometheus/rules.yml"

Severity = Literal["page", "ticket"]

_PAGES: Final = frozenset(
    {
        IssueCode.LEDGER_UNREACHABLE,
        IssueCode.LEDGER_SCHEMA,
        IssueCode.LEDGER_FULL,
        IssueCode.BROKER_FULL,
        IssueCode.NOT_POLLED,
        IssueCode.WRONG_KEY,
    }
)
"""While one of these lasts, changes are not handled at all; the others wait for office hours."""
_SUMMARIES: Final = {
    IssueCode.PORTAL_STATE: "refuse to be served, or cannot be",
    IssueCode.WRONG_KEY: "have a secret that the key of this deployment does not open",
    IssueCode.DEAD_LETTERS: "have dead letters, which wait for a decision",
    IssueCode.LEDGER_UNREACHABLE: "are not served: the ledger cannot be reached",
    IssueCode.LEDGER_SCHEMA: "are not served: another version keeps their ledger",
    IssueCode.NOT_POLLED: "have not been polled for a minute after they were due",
    IssueCode.OLD_BATCH: "have a batch that has been open for an hour",
    IssueCode.GATE_FULL: "have a lane that has been full for ten minutes",
    IssueCode.NOT_ANSWERING: "have not answered calls of a kind for ten minutes",
    IssueCode.RETRYING_TOO_LONG: "have a record that is retried beyond the age of a dead letter",
    IssueCode.ORPHANS: "have reserved records that were not adopted or not looked for",
    IssueCode.UNREADABLE_RECORDS: "have reserved records that cannot be read",
    IssueCode.OVERSIZED: "sent more than they may",
    IssueCode.LEDGER_FULL: "are not polled: the Redis of the ledger is almost full",
    IssueCode.BROKER_FULL: "are not polled, because the broker is full",
    IssueCode.BROKER_UNSEEN: "are polled though the broker does not tell how full it is",
    IssueCode.BROKER_MESSAGES: "share a broker with somebody whose messages reach our queues",
    IssueCode.SUBSCRIPTION_REFUSED: "refuse to subscribe an event that has a route",
    IssueCode.MISSED_CHANGES: "had changes whose events never came; they were run",
    IssueCode.RECONCILIATION_STUCK: "have a reconciliation that has not ended for two days",
}
"""What portals do that have the issue."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. ``issue``: the code that it stands for; "" where `status` itself does not answer."""

    name: str
    expression: str
    severity: Severity
    summary: str
    runbook: str
    issue: str = ""
    wait: str = "2m"

    def text(self) -> str:
        """Return it as a rule."""
        issue = f"\n          issue: {self.issue}" if self.issue else ""
        return f"""\
      - alert: {self.name}
        expr: {self.expression}
        for: {self.wait}
        labels:
          severity: {self.severity}{issue}
        annotations:
          summary: "{self.summary}"
          runbook: {self.runbook}
"""


def alert_name(code: str) -> str:
    """Return the name of the alert for a code: not_polled -> B24OfflineNotPolled."""
    return "B24Offline" + "".join(word.capitalize() for word in code.split("_"))


def issue_alerts() -> list[Alert]:
    """Return an alert for each code."""
    return [
        Alert(
            name=alert_name(code),
            expression=f'b24offline_issues{{code="{code}"}} > 0',
            severity="page" if code in _PAGES else "ticket",
            summary=f"Portals that {_SUMMARIES[code]}: {{{{ $value }}}}.",
            runbook=f"docs/symptoms.md#issue-{code}",
            issue=code,
        )
        for code in IssueCode
    ]


EXPORTER_ALERTS: Final = (
    Alert(
        name="B24OfflineExporterDown",
        expression="absent(b24offline_up)",
        severity="page",
        summary="Nobody watches: b24offline metrics is not scraped.",
        runbook="docs/metrics.md#alert-exporter-down",
    ),
    Alert(
        name="B24OfflinePartDown",
        expression="b24offline_up == 0",
        severity="page",
        summary="The {{ $labels.part }} cannot be read in time.",
        runbook="docs/metrics.md#alert-part-down",
    ),
)
"""What `status` cannot say, as it would not answer either."""


def rules() -> str:
    """Return the file."""
    groups = {"b24offline-issues": issue_alerts(), "b24offline-exporter": EXPORTER_ALERTS}
    return "# Made from the code by: python -m tools.alert_rules\ngroups:\n" + "".join(
        f"  - name: {name}\n    rules:\n" + "".join(alert.text() for alert in alerts) for name, alerts in groups.items()
    )


def documents() -> Documents:
    """Return what this module writes."""
    return {PATH: rules()}


main = writer("tools.alert_rules", documents)

if __name__ == "__main__":
    main()
