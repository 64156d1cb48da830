"""Replaces the version before by this one under traffic, worker by worker, and goes back: `make upgrade-test`.

Ends with 0 when mirror and portal are equal and no more ran twice than can have been cut off. The version before is the
newest tag, or what ``--before`` names; it runs from an environment of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from b24offline.config import Config
from b24offline.emulator import EmulatorProcess
from b24offline.runtime import Runtime
from b24offline.supervisor import CeleryProcess, EmbeddedValkey, child_environ
from demo.comparison import compare
from tests.support.stack import PORTAL, base_variables
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable

CHECKOUT: Final = Path(__file__).resolve().parents[2]
CHAIN: Final = Path(__file__).with_name("chain")
PROCESSES: Final = 4
"""Children of each worker: as many steps as one that is stopped can cut off."""
RATE: Final = 12
SCALE: Final = 0.1
OVERLAP_SECONDS: Final = 8.0
"""How long both versions serve side by side, after each replacement."""


@dataclass(frozen=True)
class Version:
    """A version that can run: its name in the report, and its interpreter."""

    name: str
    python: str


class Versioned(CeleryProcess):
    """A process of a version."""

    def __init__(self, version: Version, name: str, command: Iterable[str], environ: dict[str, str], at: Path) -> None:
        own = {**environ, "UPGRADE_VERSION": version.name, "REMAP_SIGTERM": "SIGQUIT", "PYTHONPATH": str(CHAIN)}
        label = f"{name}-{version.name}"
        super().__init__(label, list(command), environ=own, log_path=at / f"{label}-{time.monotonic_ns()}.log")
        self._command[0] = version.python
        self.version = version

    def ready(self) -> bool:
        """Return whether a worker reads its queues. Fail at once when it ended."""
        assert self.alive, self.log_tail()
        return " ready" in self.log_tail(20_000)


def installed(revision: str, folder: Path) -> Version:
    """Check a revision out into a folder and set up its environment. Raise `CalledProcessError`."""
    folder.mkdir()
    archive = subprocess.run(["git", "archive", revision], cwd=CHECKOUT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    subprocess.run(["make", "--silent", "install"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return Version("before", str(folder / ".venv" / "bin" / "python"))


def named(revision: str | None) -> str:
    """Return the revision of the version before: the newest tag below this commit unless one is named."""
    if revision:
        return revision
    found = subprocess.run(
        ["git", "describe", "--tags", "--abbrev=0", "HEAD^"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    if found.returncode:
        raise click.UsageError("There is no tag yet. Name the version before: make upgrade-test BEFORE=<commit>")
    return found.stdout.strip()


class Deployment:
    """Two workers and beat, each of one version or the other, beside the emulated portal and a Valkey."""

    def __init__(self, folder: Path, exit_stack: ExitStack) -> None:
        self._folder, self._exit = folder, exit_stack
        valkey = exit_stack.enter_context(EmbeddedValkey(folder / "valkey"))
        emulator = exit_stack.enter_context(EmulatorProcess(objects=60))
        self.control = emulator.control()
        self.journal = folder / "journal"
        variables = {
            **base_variables(emulator, folder, valkey.url, valkey.url, SCALE),
            "B24_PIPELINES": "upgrade_chain",
        }
        self._environ = child_environ({**variables, "UPGRADE_JOURNAL": str(self.journal)})
        self.runtime = Runtime(Config.load({**variables, "B24_PIPELINES": "b24offline.pipelines"}))
        self.workers: list[Versioned] = []
        self.stopped = 0

    def start_worker(self, version: Version, name: str) -> Versioned:
        """Start a worker on all queues, and wait until it reads them."""
        command = ["worker", "-n", f"{name}-{version.name}@%h", "-c", str(PROCESSES), "--without-mingle"]
        process = Versioned(version, name, [*command, "--without-gossip"], self._environ, self._folder)
        self._exit.callback(process.kill)
        process.start()
        wait_until(process.ready, f"{process.name} is ready")
        self.workers.append(process)
        return process

    def start_beat(self, version: Version) -> Versioned:
        """Start beat with the one schedule file."""
        command = ["beat", "-s", str(self._folder / "schedule"), "--pidfile="]
        process = Versioned(version, "beat", command, self._environ, self._folder)
        self._exit.callback(process.kill)
        process.start()
        return process

    def stop(self, worker: Versioned) -> None:
        """End a worker as a rolling restart does."""
        worker.stop(40)
        self.workers.remove(worker)
        self.stopped += 1

    def settled(self) -> bool:
        """Return whether nothing is in the portal's queue and no batch is open."""
        assert all(worker.alive for worker in self.workers), "a worker ended"
        return self.control.state()["records"] == 0 and not self.runtime.services(PORTAL).ledger.open_batches()

    def lines(self) -> list[tuple[str, str, str]]:
        """Return mark, key and version of each line of the journal."""
        text = self.journal.read_text("utf-8") if self.journal.exists() else ""
        return [(mark, key, version) for mark, key, version in map(str.split, text.splitlines())]

    def done_by(self, version: Version, since: int) -> int:
        """Count what a version has ended, in the journal after so many lines."""
        return sum(mark == "end" and name == version.name for mark, _, name in self.lines()[since:])


def replaced(deployment: Deployment, beat: Versioned, by: Version) -> Versioned:
    """Replace each worker, then beat, by those of another version; each of them works. Return the new beat."""
    for number, old in enumerate(tuple(deployment.workers)):
        deployment.start_worker(by, f"w{number}")
        since = len(deployment.lines())
        wait_until(lambda since=since: deployment.done_by(by, since) >= 3, f"the version {by.name} works")
        if number == 0:
            wait_until(
                lambda since=since, old=old: deployment.done_by(old.version, since) >= 3,
                "the other one works beside it",
            )
            time.sleep(OVERLAP_SECONDS)
        deployment.stop(old)
    beat.stop()
    return deployment.start_beat(by)


def twice(lines: list[tuple[str, str, str]]) -> int:
    """Count the keys under which the step began more often than once. Pure."""
    return sum(times > 1 for times in Counter(key for mark, key, _ in lines if mark == "begin").values())


def judged(deployment: Deployment) -> list[str]:
    """Return what did not hold."""
    found = compare(deployment.control.objects("crm_deal", since_changes=True), deployment.runtime.mirror.rows(PORTAL))
    lines, most = deployment.lines(), deployment.stopped * PROCESSES
    click.echo(
        f"{found.compared} objects changed, {sum(mark == 'end' for mark, *_ in lines)} steps ended, {twice(lines)} "
        f"ran twice; {deployment.stopped} workers were stopped, each with {PROCESSES} processes"
    )
    problems = [f"{len(what)} objects {name}" for name, what in vars(found).items() if name != "compared" and what]
    if twice(lines) > most:
        problems.append(f"{twice(lines)} steps ran twice, and no more than {most} can have been cut off")
    return problems


@click.command()
@click.option("--before", help="The version before, a commit. Default: the newest tag.")
def main(before: str | None) -> None:
    """Go from the version before to this one and back, under traffic."""
    revision = named(before)
    with tempfile.TemporaryDirectory(prefix="b24offline-upgrade-") as name, ExitStack() as exit_stack:
        folder = Path(name)
        click.echo(f"installing {revision}")
        old, new = installed(revision, folder / "before"), Version("this", sys.executable)
        deployment = Deployment(folder, exit_stack)
        for number in range(2):
            deployment.start_worker(old, f"w{number}")
        beat = deployment.start_beat(old)
        wait_until(lambda: deployment.control.state()["bindings"], "the events are subscribed")
        deployment.control.start_traffic(rate=RATE, entities=["crm_deal"])
        beat = replaced(deployment, beat, new)
        click.echo(f"replaced {revision} by this version, worker by worker")
        replaced(deployment, beat, old)
        click.echo("and back")
        changes = deployment.control.stop_traffic()["count"]
        wait_until(deployment.settled, "everything is settled")
        problems = judged(deployment)
    click.echo("\n".join(problems) or f"{changes} changes: nothing is missing, nothing repeated but what was cut off")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
