"""Show the pipeline at work: changes, failing handlers, a killed worker, an import, a mirror that equals the portal.

Exit status 0 only when every change arrived: nothing missing, stale or extra, nothing reserved or nacked.
"""

from __future__ import annotations

import shlex
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console

from b24offline.errors import B24OfflineError
from demo.comparison import compare
from demo.pipelines import CHUNK
from demo.stack import PORTAL, REQUESTS_PER_SECOND, Progress, Stack
from demo.view import View
from demo.yields import Yield

START_SECONDS = 240.0
"""How long a slow machine may take to start the workers."""
IDLE_SECONDS = 120.0
"""How long a drain goes on in which nothing is acknowledged: a slow machine drains for as long as it needs."""
LOOK_SECONDS = 0.5
DOWN_SECONDS = 2.0


@click.command(context_settings={"show_default": True})
@click.option("--seconds", default=25.0, help="How long changes arrive.", type=click.FloatRange(min=4))
@click.option("--rate", default=20.0, help="Changes a second.", type=click.FloatRange(min=0.1))
@click.option("--at-once", default=2000, help="Objects that then change at once.", type=click.IntRange(min=0))
@click.option("--objects", default=3000, help="Objects in the portal at the start.", type=click.IntRange(min=1))
@click.option("--seed", default=1, help="Seed of the objects and of the traffic.")
@click.option("--keep", is_flag=True, help="Keep everything running afterwards, until Ctrl-C.")
def main(seconds: float, rate: float, at_once: int, objects: int, seed: int, keep: bool) -> None:
    """Run a portal's emulator, a broker, two workers and beat, and check what arrives."""
    console = Console()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) != signal.SIG_IGN:  # as nohup asks for
            signal.signal(ending, lambda number, _frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="b24offline-demo-") as folder:
        try:
            with Stack(Path(folder), objects=objects, seed=seed) as stack:
                passed = _run(stack, console, Plan(seconds, rate, at_once, seed))
                if keep:
                    _keep(stack, console)
        except B24OfflineError as error:
            console.print(f"The demo cannot run: {error}")
            passed = False
        except KeyboardInterrupt:
            console.print("Stopped.")
            passed = False
    sys.exit(0 if passed else 1)


@dataclass(frozen=True)
class Plan:
    """What happens: changes of this rate for some seconds, then this many at once."""

    seconds: float
    rate: float
    at_once: int
    seed: int


def _run(stack: Stack, console: Console, plan: Plan) -> bool:
    began = time.monotonic()
    _await_bound(stack)
    with View(console) as view:
        view.say(
            "Two workers mirror a portal's leads, deals, contacts, companies, smart-process items and tasks into a SQL "
            f"table, up to {CHUNK} objects by one statement.\n{plan.rate:g} changes a second arrive for "
            f"{plan.seconds:g} s; every tenth event fails twice on purpose."
        )
        start = time.monotonic()
        _traffic(stack, view, plan, start)
        made = int(stack.control.stop_traffic()["count"])
        now = _drain(stack, view, "traffic stopped, draining", start, made)
        imported = _import(stack, view, plan.at_once, start, made) if plan.at_once and now.drained else None
        now = stack.progress()
    found = compare(stack.control.objects(since_changes=True), stack.runtime.mirror.rows(PORTAL))
    View(console).result(_rows(made + (imported.events if imported else 0), now), found)
    if imported:
        console.print(imported.in_words(), highlight=False)
    arrived = found.equal and now.drained
    if arrived:
        console.print(f"[green]Every change arrived[/], in {time.monotonic() - began:.0f} s, a killed worker included.")
    else:
        console.print(f"[red]Not every change arrived.[/] Logs of the workers: {_saved_logs(stack)}")
    return arrived


def _traffic(stack: Stack, view: View, plan: Plan, start: float) -> None:
    """Let changes arrive, and kill one worker in the middle."""
    stack.control.start_traffic(rate=plan.rate, seed=plan.seed)
    killed = restarted = False
    while (passed := time.monotonic() - start) < plan.seconds:
        if not killed and passed >= plan.seconds / 2:
            stack.workers[0].kill()
            killed = True
            view.say(f"[red]{passed:.0f} s: SIGKILL to worker-1 and its children[/]")
        elif killed and not restarted and passed >= plan.seconds / 2 + DOWN_SECONDS:
            stack.workers[0].start()
            restarted = True
            view.say(f"{passed:.0f} s: worker-1 is started again")
        view.show(passed, "changes arrive", int(stack.control.traffic()["count"]), stack.progress())
        time.sleep(LOOK_SECONDS)
    if not restarted:
        stack.workers[0].start()


def _import(stack: Stack, view: View, count: int, start: float, made: int) -> Yield:
    """Let many objects change at once, and return what it took until all were mirrored and acknowledged."""
    view.say(f"{time.monotonic() - start:.0f} s: {count} objects change at once, as after an import")
    requests, acknowledged = stack.requests(), stack.progress().acknowledged
    began = time.monotonic()
    stack.control.backlog(count)
    now = _drain(stack, view, "mirroring the import", start, made + count)
    seconds = time.monotonic() - began
    return Yield(now.acknowledged - acknowledged, stack.requests() - requests, seconds, REQUESTS_PER_SECOND)


def _await_bound(stack: Stack) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not stack.bound:
        if time.monotonic() > deadline:
            raise B24OfflineError(f"the workers did not come up.\n{stack.workers[0].log_tail()}")
        time.sleep(0.1)


def _drain(stack: Stack, view: View, phase: str, start: float, made: int) -> Progress:
    acknowledged, deadline = -1, 0.0
    while True:
        now = stack.progress()
        view.show(time.monotonic() - start, phase, made, now)
        if now.acknowledged > acknowledged:
            acknowledged, deadline = now.acknowledged, time.monotonic() + IDLE_SECONDS
        if now.drained or time.monotonic() > deadline:
            return now
        time.sleep(LOOK_SECONDS)


def _rows(made: int, now: Progress) -> dict[str, object]:
    counters = now.counters
    return {
        "changes made in the portal": made,
        "events seen (repeats merge in the queue)": counters.get("events_seen", 0),
        "acknowledged": now.acknowledged,
        "retried": counters.get("runs_retried", 0),
        "swept: run by another worker after the kill": counters.get("runs_swept", 0),
        "batches adopted": counters.get("batches_adopted", 0),
        "nacked": counters.get("events_nacked", 0),
        "left in the queue: free, reserved, nacked": f"{now.free}, {now.reserved}, {now.nacked}",
    }


def _saved_logs(stack: Stack) -> str:
    folder = Path(tempfile.mkdtemp(prefix="b24offline-demo-logs-"))
    for log in stack.folder.glob("*.log"):
        (folder / log.name).write_bytes(log.read_bytes())
    return str(folder)


def _keep(stack: Stack, console: Console) -> None:
    flower = {name: stack.variables[name] for name in ("B24_REDIS_URL", "B24_DATA_DIR", "B24_PIPELINES")}
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in flower.items())
    watch = f"{sys.executable} -m celery -A b24offline flower --address=127.0.0.1 --read-only"
    console.print(
        f"\nEverything keeps running until Ctrl-C.\n"
        f"  Flower:       cd {Path.cwd()} && {variables} {watch}\n"
        f"  the portal:   {stack.emulator.url}/control/state\n"
        f"  its traffic:  curl -X POST -d '{{\"rate\": 10}}' {stack.emulator.url}/control/traffic\n"
        f"  the mirror:   {stack.config.database_url}\n"
        f"  logs:         {stack.folder}/*.log\n"
        f"  the ledger:   {stack.valkey.url}",
        soft_wrap=True,
        highlight=False,
    )
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main()
