"""Plays rows, some at a time, each in a process of its own: most of a row is waiting for leases and in-doubt
windows."""

from __future__ import annotations

import importlib
import multiprocessing
import pkgutil
import shutil
import signal
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import tests.faults
from tests.faults.brokers import RabbitBroker
from tests.faults.row import Result, Row, rows, run
from tests.support.rabbit import RabbitNode, server_binary

RABBITMQ_PACKAGE: Final = "rabbitmq-server"
ON_RABBITMQ: Final = frozenset({*range(1, 10), 11, 13, 26, 27, 28, 46, 53, 54, 59})
"""Rows whose fault reaches the broker: a full run plays them on RabbitMQ as well."""
ALONE: Final = frozenset({46, 47})
"""Rows that compare times: played one at a time, after all others."""


def known_rows() -> list[Row]:
    """Return the rows of all modules ``tests.faults.rows_*``, by number."""
    for module in pkgutil.iter_modules(tests.faults.__path__, "tests.faults."):
        if module.name.startswith("tests.faults.rows_"):
            importlib.import_module(module.name)
    return rows()


@dataclass(frozen=True)
class Job:
    """One row on one broker. ``index``: where the row stands in `known_rows`."""

    index: int
    broker: str
    seed: int
    keep_logs: Path


def lacking(chosen: Collection[tuple[Row, str]]) -> list[str]:
    """Return the system packages that these rows need on these brokers, and that are not installed."""
    wanted = {(row.package, row.needs is None or row.needs.is_file()) for row, _ in chosen}
    if any(broker == "rabbitmq" for _, broker in chosen):
        wanted.add((RABBITMQ_PACKAGE, server_binary() is not None))
    return sorted(package for package, is_here in wanted if not is_here)


def play(job: Job) -> Result:
    """Play a row, on a broker that starts and ends with it; the deployment too, also when the row is told to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return _play(job)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _play(job: Job) -> Result:
    row = known_rows()[job.index]
    if job.broker == "valkey":
        return run(row, seed=job.seed, keep_logs=job.keep_logs)
    with tempfile.TemporaryDirectory(prefix="b24offline-rabbit-", ignore_cleanup_errors=True) as folder:
        try:
            with RabbitNode(Path(folder)) as node:
                result = run(row, seed=job.seed, broker=RabbitBroker(node, Path(folder)), keep_logs=job.keep_logs)
            for log in Path(folder).glob("log/*.log") if result.logs else ():
                shutil.copy(log, result.logs)
            return result
        except RuntimeError as error:
            return Result(row.number, row.name, job.broker, job.seed, problems=[str(error)])


def play_all(jobs: Sequence[Job], *, at_a_time: int) -> Iterator[Result]:
    """Yield the results as they come. When the caller stops early, what is under way is ended."""
    alone = [job for job in jobs if known_rows()[job.index].number in ALONE]
    for some, processes in (([job for job in jobs if job not in alone], at_a_time), (alone, 1)):
        context = multiprocessing.get_context("spawn")
        with context.Pool(processes, _leave_ctrl_c_to_the_parent, maxtasksperchild=1) as pool:
            yield from pool.imap_unordered(play, some)


def _leave_ctrl_c_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
