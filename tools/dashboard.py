"""Writes `deploy/grafana/dashboard.json`: what the metrics of a deployment show, in the order in which it is asked.

`python -m tools.dashboard` writes it; with `--check` it only says whether it is up to date.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Literal

from tools.generated import Documents, writer

PATH: Final = "deploy/grafana/dashboard.json"
RATE_INTERVAL: Final = "$__rate_interval"
"""Grafana's word for a window that fits the scrapes and the width of a panel."""
_COLUMNS: Final = 3
_WIDTH: Final = 24 // _COLUMNS
_HEIGHT: Final = 7
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

Unit = Literal["short", "s", "bytes", "ops", "percentunit"]


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph. ``queries``: legend -> expression."""

    title: str
    unit: Unit
    queries: dict[str, str]
    about: str = ""


def _rate(name: str, *by: str) -> str:
    return f"sum{_by(by)}(rate(b24offline_{name}[{RATE_INTERVAL}]))"


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)}) " if labels else " "


def _quantile(share: float, name: str, *by: str) -> str:
    buckets = _rate(f"{name}_bucket", "le", *by)
    return f"histogram_quantile({share}, {buckets})"


def _by_label(name: str, label: str) -> dict[str, str]:
    return {f"{{{{{label}}}}}": f"sum by ({label}) (b24offline_{name})"}


ROWS: Final[dict[str, tuple[Panel, ...]]] = {
    "Must somebody act?": (
        Panel("Portals with an issue", "short", _by_label("issues", "code"), "What to do: docs/symptoms.md."),
        Panel("Portals by state", "short", _by_label("portals", "state")),
        Panel("Parts that can be read", "short", _by_label("up", "part"), "0: ledger, store or broker is away."),
        Panel(
            "Records that wait",
            "short",
            {**_by_label("records_waiting", "place"), "dead letters": "b24offline_dead_letters"},
        ),
        Panel(
            "Oldest record",
            "s",
            {what: f"b24offline_oldest_{what}_seconds" for what in ("reserved", "nacked", "unadopted")},
            "Every reservation ends; nacked ones run again after 5 minutes to a day.",
        ),
        Panel("Late polls", "s", {"latest": "b24offline_poll_late_seconds"}),
    ),
    "Events and runs": (
        Panel(
            "Events",
            "ops",
            {"reserved": _rate("events_reserved_total"), "{{outcome}}": _rate("events_settled_total", "outcome")},
        ),
        Panel(
            "From reservation to acknowledgement",
            "s",
            {"median": _quantile(0.5, "acknowledgement_seconds"), "95 %": _quantile(0.95, "acknowledgement_seconds")},
        ),
        Panel("Runs that end", "ops", {"{{outcome}}": _rate("runs_ended_total", "outcome")}),
        Panel(
            "Runs that do not go well",
            "ops",
            {word: _rate(f"runs_{word}_total") for word in ("retried", "crashed", "swept")},
            "swept: handed out again, as after a lost message or a wait.",
        ),
        Panel("Runs by state", "short", _by_label("runs", "state")),
        Panel("Open batches", "short", _by_label("batches", "kind")),
    ),
    "Calls to portals": (
        Panel("Requests by outcome", "ops", {"{{outcome}}": _rate("requests_total", "outcome")}),
        Panel("Requests by method", "ops", {"{{method}}": _rate("requests_total", "method")}),
        Panel(
            "Duration of a request",
            "s",
            {"median": _quantile(0.5, "request_duration_seconds"), "95 %": _quantile(0.95, "request_duration_seconds")},
        ),
        Panel("Waits before a request, 95 %", "s", {"{{reason}}": _quantile(0.95, "call_wait_seconds", "reason")}),
        Panel("Calls turned away", "ops", {"{{reason}}": _rate("calls_turned_away_total", "reason")}),
        Panel(
            "What a portal refuses",
            "short",
            {
                "circuits open": "b24offline_silent_circuits",
                "lanes full": "b24offline_full_lanes",
                "subscriptions missing": "b24offline_subscriptions_missing",
            },
        ),
    ),
    "Workers, queues and ledger": (
        Panel("Messages in queues", "short", _by_label("queue_messages", "queue")),
        Panel(
            "How long a step waits for a worker",
            "s",
            {"95 %": _quantile(0.95, "step_queue_seconds"), "oldest now": "b24offline_oldest_queued_step_seconds"},
        ),
        Panel(
            "Since a worker read the last message",
            "s",
            {"{{task}}": "time() - b24offline_last_message_timestamp_seconds"},
            "tick every second, sweep every 15; growing: beat or the workers for b24offline.poll are away.",
        ),
        Panel("Waits in the queue of polls, 95 %", "s", {"{{task}}": _quantile(0.95, "message_queue_seconds", "task")}),
        Panel(
            "Memory",
            "bytes",
            {
                "Redis of the ledger": "b24offline_ledger_used_bytes",
                "open events": "b24offline_event_bytes",
                "cached objects": "b24offline_cached_object_bytes",
            },
        ),
        Panel(
            "Time of scripts",
            "percentunit",
            {"busy": _rate("ledger_script_seconds_total")},
            "1: the server does nothing else.",
        ),
    ),
}


def panels() -> list[Panel]:
    """Return all graphs."""
    return [panel for row in ROWS.values() for panel in row]


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    made: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        made.append(
            {"type": "row", "title": title, "id": len(made) + 1, "gridPos": _place(0, top, 24, 1), "panels": []}
        )
        for number, panel in enumerate(row):
            line, column = divmod(number, _COLUMNS)
            place = _place(column * _WIDTH, top + 1 + line * _HEIGHT, _WIDTH, _HEIGHT)
            made.append({"id": len(made) + 1, "gridPos": place, **_graph(panel)})
        top += 1 + _HEIGHT * -(-len(row) // _COLUMNS)
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    return {
        "title": "b24offline",
        "uid": "b24offline",
        "tags": ["b24offline"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [source]},
        "panels": made,
    }


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _graph(panel: Panel) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + number), "datasource": _SOURCE, "expr": expression, "legendFormat": legend}
        for number, (legend, expression) in enumerate(panel.queries.items())
    ]
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def documents() -> Documents:
    """Return what this module writes."""
    return {PATH: json.dumps(dashboard(), indent=2) + "\n"}


main = writer("tools.dashboard", documents)

if __name__ == "__main__":
    main()
