"""The application of the contestants that are Celery alone: its defaults, without stored results but for chords."""

from __future__ import annotations

import os

from celery import Celery

from benchmarks import steps

BROKER_VARIABLE = "BENCH_BROKER"
BACKEND_VARIABLE = "BENCH_BACKEND"

app = Celery("benchmarks.bare_tasks", broker=os.environ.get(BROKER_VARIABLE), backend=os.environ.get(BACKEND_VARIABLE))
app.conf.task_ignore_result = BACKEND_VARIABLE not in os.environ
app.conf.broker_connection_retry_on_startup = True


@app.task
def first(reference: object) -> object:
    """Do the first step."""
    return steps.first(reference)


@app.task
def second(reference: object) -> object:
    """Do the second step."""
    return steps.second(reference)


@app.task
def both(reference: object) -> object:
    """Do both steps."""
    return steps.second(steps.first(reference))


@app.task
def last(reference: object) -> object:
    """Do the second step for the batch to note it."""
    return steps.first(reference)


@app.task
def settle(references: list[object]) -> None:
    """Do what follows a whole batch."""
    steps.note_done(len(references))
