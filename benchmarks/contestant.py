"""What is compared: each contestant takes events and does two steps for each, in processes of its own."""

from __future__ import annotations

import os
import signal
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar, Final, Self

from benchmarks.brokers import Broker
from benchmarks.counts import Counts

DONE_VARIABLE: Final = "BENCH_DONE_FILE"
"""Environment variable: the file to which the last step of each event adds one byte."""
WORKER_PROCESSES: Final = 2


class Contestant(ABC):
    """One way of handling events. Entered, it is started and at rest; it works between `resume` and `pause`."""

    name: ClassVar[str]
    title: ClassVar[str]
    brokers: ClassVar[tuple[str, ...]] = ("valkey", "rabbitmq")
    """With which brokers it differs."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.broker = broker
        self.done_file = folder / "done"
        self.done_file.touch()
        self._exit = ExitStack()

    @classmethod
    def missing(cls) -> str:
        """Return what this machine lacks for it; nothing where it can take part."""
        return ""

    def __enter__(self) -> Self:
        with ExitStack() as started:
            self.start(started)
            self._exit = started.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.resume()
        self._exit.close()

    @abstractmethod
    def start(self, started: ExitStack) -> None:
        """Start servers and processes, which end with ``started``; they may be starting yet."""

    @property
    @abstractmethod
    def process_ids(self) -> list[int]:
        """The processes whose time counts; each leads a group of its own."""

    @property
    def other_process_ids(self) -> list[int]:
        """Further processes that rest with it, whose time does not count."""
        return []

    @abstractmethod
    def feed(self, count: int) -> None:
        """Let so many events wait, while it is at rest."""

    @abstractmethod
    def counts(self) -> Counts:
        """Return what was counted since the start."""

    def finished(self, handled: int) -> bool:
        """Return whether nothing is left to do, once so many events were handled since the start."""
        return self.done_file.stat().st_size >= handled

    def wake(self) -> None:
        """Say that events wait; do nothing where the messages themselves say so."""
        return

    def pause(self) -> None:
        """Stop its processes in the middle of whatever they do."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for process_id in (*self.process_ids, *self.other_process_ids):
            os.killpg(process_id, number)


_registered: dict[str, type[Contestant]] = {}


def contestant(kind: type[Contestant]) -> type[Contestant]:
    """Register a contestant; they run in the order of registration."""
    _registered[kind.name] = kind
    return kind


def contestants() -> dict[str, type[Contestant]]:
    """Return name -> contestant, of all that were registered."""
    return dict(_registered)
