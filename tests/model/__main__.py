"""`make model`: explores the protocol with all rules on, then with rules off, and prints what was found.

DEPTH=1 (default): two changes; one loss of the ledger with one call executed twice, and with one process cut off and
one that stands still; batches that linger; two pipelines. DEPTH=2 adds faults together, a finer clock, and three
changes: minutes, and gigabytes.
The exit status is 0 when a loss was found where it must be, and nowhere else. `--rule NAME` prints the history of one
case in full.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

from .explore import Explored, explore
from .rule_table import ASKED_FOR, BOTH, LATE, LINGER, LOSS, NEEDED, PAIR, SPARE, TARGET, TOGETHER, Case
from .sentences import reply
from .state import Bounds, Rules

FINE = Bounds(
    life=3,
    reserving=3,
    choosing=1,
    nack_age=2,
    poll_lease=2,
    recovery=2,
    settle_lease=1,
    in_doubt=4,
    sighting=3,
    redrive_wait=5,
)
"""A tick of a minute: life 180 s, overlap 60 s, nack age, poll lease and recovery 75 s rounded up, redrive 300 s."""
WHOLE: dict[int, tuple[tuple[str, Bounds], ...]] = {
    1: (
        ("two changes, one loss, one call twice", BOTH),
        ("two changes, one loss, one cut off, one stands still", replace(BOTH, repeats=0, freezes=1, pauses=1)),
        ("two changes, batches linger", LINGER),
        ("two changes, two pipelines", PAIR),
        ("two changes, what is adopted at once is written late", LATE),
        ("two changes, what is written to deduplicates by key", TARGET),
    ),
    2: (
        ("two changes, one loss, one call twice, one cut off, one stands still", replace(BOTH, freezes=1, pauses=1)),
        ("two changes, one loss, batches linger", replace(LOSS, linger=True)),
        ("two changes, two pipelines, batches linger", replace(PAIR, linger=True)),
        ("two changes, two pipelines, one cut off", replace(PAIR, freezes=1)),
        ("finer clock, two changes, one call twice", replace(FINE, losses=0)),
        ("finer clock, two changes, one loss", replace(FINE, repeats=0)),
        ("three changes, one loss", replace(BOTH, changes=3, repeats=0)),
        ("three changes, one call twice", replace(BOTH, changes=3, losses=0)),
    ),
}


@dataclass(frozen=True)
class Row:
    """One exploration. `wanted`: the violation it must find, empty where there must be none."""

    name: str
    wanted: str
    found: Explored

    @property
    def good(self) -> bool:
        """Whether it found what it must find, or explored everything and found nothing."""
        if self.wanted:
            return self.wanted in self.found.violation
        return not self.found.violation and self.found.complete

    @property
    def line(self) -> str:
        """For the table."""
        found = self.found
        short = self.wanted if self.wanted in found.violation else found.violation.partition(":")[0]
        outcome = short or ("none" if found.complete else "not explored to its end")
        steps = str(len(found.history)) if found.violation else ""
        verdict = "" if self.good else f"EXPECTED: {self.wanted or 'none'}"
        counts = f"{found.states:>9} {found.transitions:>11} {found.seconds:>7.1f}"
        return f"{self.name:<70} {outcome:<8} {steps:>5} {counts}  {verdict}".rstrip()


HEAD = f"{'':<70} {'loss':<8} {'steps':>5} {'states':>9} {'transitions':>11} {'s':>7}"


def tested(depth: int) -> Iterator[Row]:
    """Yield the whole table: all rules on within the bounds of this depth, then every case with rules off."""
    for level in range(1, depth + 1):
        for name, bounds in WHOLE[level]:
            yield Row(name, "", explore(Rules(), bounds, drains=True))
    for case in (*NEEDED, *ASKED_FOR, *TOGETHER, *SPARE):
        yield Row(f"without {case.name}", case.violation, explore(case.rules, case.bounds, drains=case.drains))


def history(case: Case) -> bool:
    """Print one case with its whole history. Return whether it is what the table says."""
    row = Row(f"without {case.name}", case.violation, explore(case.rules, case.bounds, drains=case.drains))
    print(f"{row.line}\n    {case.means}", flush=True)
    _print(row.found)
    return row.good


def _print(found: Explored) -> None:
    for number, line in enumerate(reply(found.history), 1):
        print(f"    {number:2}  {line}")
    if found.violation:
        print(f"        {found.violation}")


def main() -> int:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="make model", description=__doc__)
    parser.add_argument("--depth", type=int, default=1, choices=(1, 2))
    parser.add_argument("--rule", help="only the cases with this rule off, with their whole histories")
    chosen = parser.parse_args()
    print(HEAD)
    if chosen.rule:
        cases = (*NEEDED, *ASKED_FOR, *TOGETHER, *SPARE)
        wanted = [case for case in cases if chosen.rule in case.off]
        if not wanted:
            print(f"no case has {chosen.rule!r} off; there are: {', '.join(sorted({n for c in cases for n in c.off}))}")
            return 2
        return 0 if all(history(case) for case in wanted) else 1
    good = True
    for row in tested(chosen.depth):
        print(row.line, flush=True)
        if not row.good:
            good = False
            _print(row.found)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
