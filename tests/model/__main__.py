"""`make model`: explores the protocol with all rules on, then with rules off, and prints what was found.

DEPTH=1 (default): two changes, one loss of the ledger, one call executed twice. DEPTH=2 adds explorations with a finer
clock and with three changes: minutes, and gigabytes. `--rule NAME` prints the history of one case in full.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from .explore import Explored, explore
from .rule_table import ASKED_FOR, BOTH, NEEDED, SPARE, TOGETHER, Case
from .sentences import told
from .state import Bounds, Rules

FINE = Bounds(
    life=3,
    reserving=3,
    choosing=1,
    report_age=2,
    poll_lease=2,
    recovery=2,
    settle_lease=1,
    quiet=4,
    sighting=3,
    redrive_wait=5,
)
"""A tick of a minute: life 180 s, overlap 60 s, report age, poll lease and recovery 75 s rounded up, redrive 300 s."""
WHOLE: dict[int, tuple[tuple[str, Bounds], ...]] = {
    1: (("two changes, one loss, one call twice", BOTH),),
    2: (
        ("finer clock, two changes, one call twice", replace(FINE, losses=0)),
        ("finer clock, two changes, one loss", replace(FINE, repeats=0)),
        ("three changes, one loss", replace(BOTH, changes=3, repeats=0)),
        ("three changes, one call twice", replace(BOTH, changes=3, losses=0)),
    ),
}


def _numbers(found: Explored) -> str:
    return f"{found.states} states, {found.transitions} transitions, {found.seconds:.1f} s"


def _print(found: Explored, lines: int = 1_000) -> None:
    for number, line in enumerate(told(found.history)[:lines], 1):
        print(f"    {number:2}  {line}")
    if found.violation:
        print(f"        {found.violation}")


def whole(name: str, bounds: Bounds) -> bool:
    """All rules on: prints the numbers; answers whether nothing was found."""
    found = explore(Rules(), bounds, drains=True)
    print(f"all rules on, {name}: {found.violation or 'no loss'}; {_numbers(found)}", flush=True)
    _print(found)
    return not found.violation and found.complete


def one(case: Case, lines: int) -> bool:
    """Some rules off: prints what was found; answers whether it is what the table says."""
    found = explore(case.rules, case.bounds, drains=case.drains)
    print(f"without {case.name} ({case.means}): {len(found.history)} steps; {_numbers(found)}", flush=True)
    _print(found, lines)
    return bool(found.violation) == bool(case.violation)


def main() -> int:
    """Runs what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="make model", description=__doc__)
    parser.add_argument("--depth", type=int, default=1, choices=(1, 2))
    parser.add_argument("--rule", help="only the cases with this rule off, with their whole histories")
    chosen = parser.parse_args()
    cases = (*NEEDED, *ASKED_FOR, *TOGETHER, *SPARE)
    if chosen.rule:
        wanted = [case for case in cases if chosen.rule in case.off]
        if not wanted:
            print(f"no case has {chosen.rule!r} off; there are: {', '.join(sorted({n for c in cases for n in c.off}))}")
            return 2
        return 0 if all(one(case, 1_000) for case in wanted) else 1
    good = [whole(name, bounds) for depth in range(1, chosen.depth + 1) for name, bounds in WHOLE[depth]]
    good += [one(case, 0) for case in cases]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
