"""What stays in a worker of a step's retries and failures until the collector of garbage comes."""

from __future__ import annotations

import gc
import logging
import pickle
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from celery.app.trace import build_tracer
from celery.exceptions import Retry

from b24offline.tasks.celery_app import app
from b24offline.tasks.steps import Step, step

TIMES = 20
BYTES_KEPT = 100_000


def deep(levels: int, error: Exception) -> None:
    if levels == 0:
        raise error
    deep(levels - 1, error)


@step
def retried(levels: int) -> None:
    deep(levels, Retry("again", exc=ValueError("text"), when=1))


@step
def failing(levels: int) -> None:
    deep(levels, ValueError("text"))


@pytest.fixture
def collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


def traced(task: Any, number: int) -> Any:
    tracer = build_tracer(task.name, task, app=app)
    name = f"t{number}"
    return tracer(name, (30,), {}, {"id": name, "task": task.name, "args": (30,), "kwargs": {}, "delivery_info": {}})


def kept_bytes(task: Any) -> float:
    """Return how much each retry or failure leaves behind."""
    traced(task, 0)
    before, _ = tracemalloc.get_traced_memory()
    for number in range(TIMES):
        traced(task, number)
    return (tracemalloc.get_traced_memory()[0] - before) / TIMES


@pytest.mark.parametrize(("task", "hook"), [(retried, "on_retry"), (failing, "on_failure")], ids=["retry", "failure"])
def test_little_is_kept_of_a_traceback(
    task: Any, hook: str, collector_off: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    light = kept_bytes(task)
    monkeypatch.delattr(Step, hook)
    whole = kept_bytes(task)
    print(f"{light / 1000:.0f} kB of {whole / 1000:.0f} kB")
    assert light < BYTES_KEPT < whole / 2


def test_the_log_of_a_failure_has_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    result = traced(failing, 1)
    assert "ValueError: text" in caplog.text
    assert f"in {deep.__name__}" in caplog.text
    assert "raise error" in caplog.text
    assert pickle.loads(pickle.dumps(result.retval)).tb is not None, "it is sent to the parent process"


def test_a_retry_still_says_where_it_was_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    result = traced(retried, 1)
    assert result.info.state == "RETRY"
    assert "raise error" in result.retval.traceback
