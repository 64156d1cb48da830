"""``make bench``: measure all contestants, print the tables, and with all of them write docs/benchmarks.md.

``--quick`` takes under 5 minutes and writes nothing. ``--only`` measures some contestants beside the base.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import benchmarks.contestants  # noqa: F401 - each module registers its contestants
from benchmarks.brokers import Brokers, RabbitBrokers
from benchmarks.contestant import Contestant, contestants
from benchmarks.measure import BASE, Result, measure
from benchmarks.report import table, write_document

ROUNDS, QUICK_ROUNDS = 5, 3
EVENTS, QUICK_EVENTS = 2000, 400


def main() -> None:
    """Parse the command line, measure, report."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and events; no document")
    parser.add_argument("--broker", choices=("valkey", "rabbitmq"), action="append", help="default: both")
    parser.add_argument("--only", action="append", choices=sorted(contestants()), help="default: all")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--events", type=int, help="events of a turn")
    options = parser.parse_args()
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    events = options.events or (QUICK_EVENTS if options.quick else EVENTS)
    wanted = {BASE, *(options.only or contestants())}
    found: dict[str, list[Result]] = {}
    began = time.monotonic()
    for kind in options.broker or ("valkey", "rabbitmq"):
        kinds = {n: c for n, c in _present().items() if n in wanted and (n == BASE or kind in c.brokers)}
        with tempfile.TemporaryDirectory(prefix="b24offline-bench-") as name:
            folder = Path(name)
            with (RabbitBrokers if kind == "rabbitmq" else Brokers)(folder) as brokers:
                found[kind] = measure(kinds, brokers, folder, rounds=rounds, events=events, tell=_tell)
        print(f"\n{kind}: {rounds} rounds of {events} events\n\n{table(found[kind])}\n", flush=True)
    _tell(f"{time.monotonic() - began:.0f} s")
    if not any(vars(options).values()):
        write_document(found, rounds=rounds, events=events)


def _present() -> dict[str, type[Contestant]]:
    """Return the contestants for which this machine has all they need; say which ones are left out."""
    lacks = {name: kind.missing() for name, kind in contestants().items()}
    for name, what in lacks.items():
        if what:
            _tell(f"{name} is left out: {what}")
    return {name: kind for name, kind in contestants().items() if not lacks[name]}


def _tell(line: str) -> None:
    print(f"[bench] {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
