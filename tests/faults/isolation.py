"""The trial of isolation: 50 portals, ten of them hanging, hostile, throttled or dead; how long do the others wait?

``python -m tests.faults.isolation``. Timers have their real length unless ``--scale`` says otherwise. Exit status 0
only when the 95th percentile from change to acknowledgement of the 40 others at most doubled, and memory was flat.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

import click

from tests.faults.crowd import ALL_BUT_RESERVING, Crowd, Phase, names
from tests.faults.gauges import growth
from tests.faults.stage import Plan, Stage, wait_until
from tests.support.ports import free_port

GROWTH: Final = 1.15
"""How much more memory the second half of a phase may take than the first."""
HUGE: Final = "<html>" + "x" * (2 << 20)


def fall_ill(crowd: Crowd) -> None:
    """Let three portals hang, two be hostile, three throttled and two dead."""
    sick = list(crowd.sick.items())
    for name, control in sick[:3]:
        for match in ALL_BUT_RESERVING:
            control.fault(match, "hang", seconds=3600)
        crowd.stage.noted(f"{name} hangs in every call but the reserving one")
    sick[3][1].fault("*", "wrong_types")
    sick[4][1].fault("*", "html", body=HUGE)
    for _, control in sick[5:8]:
        control.fault("*", "error", status=503, code="QUERY_LIMIT_EXCEEDED")
    for name, _ in sick[8:]:
        crowd.stage.move(f"http://127.0.0.1:{free_port()}/rest/", name)


def judged(before: Phase, during: Phase) -> list[str]:
    """Return what did not hold. Pure. Waits are those of one run: a busy machine makes both of them longer."""
    found = []
    if during.p95 > 2 * before.p95:
        found.append(f"the p95 of the others was {before.p95:.2f} s and is {during.p95:.2f} s: more than twice that")
    for what, samples in (("workers", during.worker_bytes), ("ledger", during.ledger_bytes)):
        if growth(samples) > GROWTH:
            found.append(f"memory of {what} grew by {growth(samples):.2f}")
    return found


@click.command(context_settings={"show_default": True})
@click.option("--minutes", default=10.0, help="How long both phases take together.")
@click.option("--scale", default=1.0, help="Length of timers.")
@click.option("--concurrency", default=8, help="Processes of the one worker.")
@click.option("--round-seconds", default=10.0, help="Each portal has one change in this time.")
@click.option("--seed", default=1, help="Of objects and traffic.")
def main(minutes: float, scale: float, concurrency: int, round_seconds: float, seed: int) -> None:
    """Measure 40 portals without and with ten sick ones beside them."""
    healthy, sick = names("well", 40), names("sick", 9)
    idle = {"B24_POLL_INTERVAL_MAX_SECONDS": "4"}
    plan = Plan(portals=(*healthy, *sick), objects=30, concurrency=concurrency, scale=scale, variables=idle)
    rounds = max(3, round(minutes * 60 / round_seconds / 3))
    with tempfile.TemporaryDirectory() as folder, Stage(Path(folder), plan, seed=seed) as stage:
        crowd = Crowd(stage, healthy, sick)
        wait_until(crowd.empty, "nothing is left from the start", 300)
        before = crowd.measure("without", rounds=rounds, round_seconds=round_seconds)
        click.echo(before)
        fall_ill(crowd)
        during = crowd.measure("with ten", rounds=2 * rounds, round_seconds=round_seconds, sick_too=True)
        click.echo(during)
        problems = judged(before, during)
    click.echo("\n".join(problems) or f"held: p95 x {during.p95 / before.p95:.2f}")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
