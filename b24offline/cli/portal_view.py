"""How portals are shown: as a line of a table, as facts of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from b24offline.cli.output import span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from b24offline.monitoring import HealthSample, PortalStatus

TITLES: Final = (
    "portal",
    "desired",
    "state",
    "open",
    "oldest",
    "overdue",
    "next poll",
    "acknowledged",
    "failed",
    "dead letters",
    "reason",
)
_NOTHING: Final[Mapping[str, set[str]]] = {"desired": {"run"}, "oldest": {"-"}, "overdue": {"0"}, "reason": {""}}
"""Column -> what it holds while all is well."""


def columns(statuses: Sequence[PortalStatus]) -> tuple[list[str], list[list[str]]]:
    """Return titles and lines of the table of portals, without the columns in which there is nothing to see."""
    lines = [_row(status) for status in statuses]
    shown = [
        place for place, title in enumerate(TITLES) if {line[place] for line in lines} - _NOTHING.get(title, set())
    ]
    return [TITLES[place] for place in shown], [[line[place] for place in shown] for line in lines]


def _row(status: PortalStatus) -> tuple[str, ...]:
    portal = status.portal
    cells = _ledger_cells(status.sample)
    return (portal.name, portal.desired_state, portal.state, *cells, str(status.dead_letters), portal.state_reason[:80])


def _ledger_cells(sample: HealthSample | None) -> tuple[str, ...]:
    if sample is None:
        return ("?",) * 6
    oldest = max([*sample.open_batches.values(), sample.oldest_reserved_seconds], default=0.0)
    return (
        str(len(sample.open_batches)),
        span(oldest) if oldest else "-",
        str(sample.overdue_runs),
        _next_poll(sample.next_poll_seconds),
        str(sample.counters.get("events_acknowledged", 0)),
        str(sample.counters.get("runs_failed", 0)),
    )


def _next_poll(planned: float | None) -> str:
    if planned is None:
        return "-"
    if planned > 0:
        return span(planned)
    return "now" if planned > -1 else f"{span(-planned)} late"


def facts(status: PortalStatus) -> list[tuple[str, str]]:
    """Return name and value of everything that is shown of one portal."""
    portal, sample = status.portal, status.sample
    return [
        ("portal", portal.name),
        ("desired state", f"{portal.desired_state} since {portal.desired_since:%Y-%m-%d %H:%M:%S} UTC"),
        ("state", f"{portal.state} since {portal.state_since:%Y-%m-%d %H:%M:%S} UTC"),
        ("reason", portal.state_reason),
        ("address", portal.client_endpoint),
        ("authorization server", portal.auth_url),
        ("client id", portal.client_id),
        ("connector", portal.connector),
        ("member id", portal.member_id or "unknown until the first token refresh"),
        ("open", open_batches(status)),
        ("overdue runs", str(sample.overdue_runs) if sample else ""),
        ("next poll", "" if sample is None or sample.next_poll_seconds is None else span(sample.next_poll_seconds)),
        ("dead letters", str(status.dead_letters)),
        ("reconciled", str(sample.reconciled) if sample and sample.reconciled else ""),
        *(_counted(sample) if sample else ()),
        *((f"the {issue.actor} must act", f"({issue.code}) {issue.message}") for issue in status.issues),
    ]


def _counted(sample: HealthSample) -> list[tuple[str, str]]:
    """Return the counters that a person reads; the others, with a colon, are for metrics."""
    counters = sorted(sample.counters.items())
    return [(f"  {name.replace('_', ' ')}", str(count)) for name, count in counters if ":" not in name]


def open_batches(status: PortalStatus) -> str:
    """Return how many batches are open, and for how long."""
    if status.sample is None:
        return "unknown, the ledger cannot be reached"
    batches = status.sample.open_batches
    if not batches:
        return "no open batches"
    return f"{len(batches)} open batches, the oldest for {span(max(batches.values()))}"
