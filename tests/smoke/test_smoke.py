"""Our image with pytest-celery's containers, on Valkey and RabbitMQ: `make smoke`."""

from __future__ import annotations

import json
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING

import pytest
from pytest_celery import CeleryTestContainer, CeleryTestSetup

from tests.smoke.nodes import PROBE, Portal, Shop, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTLED_SECONDS = 300
LOCKED_SECONDS = 60


def all_arrived(portal: Portal, setup: CeleryTestSetup, *, changed: int) -> dict[str, int]:
    """Wait until nothing waits, compare the mirror with the portal, and return the counters."""

    def acknowledged() -> bool:
        now = portal.ask("progress")
        return now["waiting"] == 0 and now["counters"].get("events_acknowledged", 0) >= 1

    wait_for(acknowledged, "everything is acknowledged", SETTLED_SECONDS, setup.worker.logs)
    found = portal.ask("difference")
    assert found["compared"] >= changed
    assert [found["missing"], found["stale"], found["extra"]] == [[], [], []]
    counters: dict[str, int] = portal.ask("progress")["counters"]
    return counters


@contextmanager
def steps_held(portal: Portal, setup: CeleryTestSetup, *, backlog: int) -> Iterator[None]:
    """Let steps wait for the locked mirror; it is free again by itself."""
    command = ["python", "-c", PROBE, "lock-mirror", str(LOCKED_SECONDS)]
    portal.exec_run(command, environment=dict(portal.environment), detach=True)
    portal.ask("backlog", str(backlog))
    wait_for(lambda: portal.ask("lock-waiters") >= 2, "steps wait for the locked mirror", 120, setup.worker.logs)
    yield


def remotely(setup: CeleryTestSetup, *words: str) -> str:
    """Give a command of Celery's remote control where the worker runs, as an operator does; return what it printed."""
    return str(setup.worker.container.exec_run(["celery", "-A", "b24offline", *words]).output.decode())


def running(setup: CeleryTestSetup) -> list[str]:
    """Return the ids of the steps that run; none as well where no worker answers."""
    printed = remotely(setup, "inspect", "active", "--json", "--timeout", "5")
    lines = [line for line in printed.splitlines() if line.startswith("{")]
    tasks = chain.from_iterable(json.loads(lines[-1]).values()) if lines else ()
    return [task["id"] for task in tasks if ".step." in task["name"]]


def test_versions_are_those_that_we_name(celery_setup: CeleryTestSetup, database: CeleryTestContainer) -> None:
    asked = {
        "python": celery_setup.worker.container.exec_run("python --version"),
        "postgresql": database.exec_run("psql --version"),
        "broker": celery_setup.broker.container.exec_run(
            ["sh", "-c", "valkey-server --version || rabbitmqctl version"]
        ),
    }
    versions = {name: reply.output.decode().strip() for name, reply in asked.items()}
    print(versions)
    assert " 3.13" in versions["python"]
    assert " 17" in versions["postgresql"]
    assert "v=9" in versions["broker"] or versions["broker"].splitlines()[-1].startswith("4.")


def test_change_arrives(portal: Portal, celery_setup: CeleryTestSetup) -> None:
    portal.ask("backlog", "20")
    counters = all_arrived(portal, celery_setup, changed=20)
    assert counters["events_acknowledged"] >= 20


def test_killed_worker_loses_nothing(portal: Portal, celery_setup: CeleryTestSetup) -> None:
    with steps_held(portal, celery_setup, backlog=30):
        celery_setup.worker.kill()
        assert celery_setup.worker.container.status == "exited"
    celery_setup.worker.restart()
    counters = all_arrived(portal, celery_setup, changed=30)
    assert counters.get("runs_swept", 0) > 0


def test_restarted_broker_loses_nothing(portal: Portal, celery_setup: CeleryTestSetup) -> None:
    portal.ask("traffic", "10", "10")
    wait_for(
        lambda: portal.ask("progress")["counters"].get("events_acknowledged", 0),
        "events are served",
        60,
        celery_setup.worker.logs,
    )
    celery_setup.broker.restart()
    wait_for(lambda: not portal.ask("progress")["running"], "the changes end", 60, celery_setup.worker.logs)
    all_arrived(portal, celery_setup, changed=1)


def test_revoked_step_runs_again(portal: Portal, celery_setup: CeleryTestSetup) -> None:
    with steps_held(portal, celery_setup, backlog=10):
        wait_for(lambda: running(celery_setup), "the worker tells what it runs", 30, celery_setup.worker.logs)
        remotely(celery_setup, "control", "terminate", "SIGKILL", *running(celery_setup))
        celery_setup.worker.assert_log_exists("Terminating")
    counters = all_arrived(portal, celery_setup, changed=10)
    assert counters.get("runs_swept", 0) + counters.get("runs_retried", 0) > 0


@pytest.mark.parametrize("pipelines", ["bridge"], indirect=True)
def test_step_of_another_stack_takes_part(portal: Portal, celery_setup: CeleryTestSetup, shop_container: Shop) -> None:
    portal.ask("update", "crm_deal", "5")

    def notes(container: CeleryTestContainer) -> str:
        return str(container.exec_run("cat /tmp/notes").output.decode())

    wait_for(
        lambda: notes(celery_setup.worker.container).count("concluded crm_deal") == 5,
        "each chain went on after the step of the shop",
        60,
        celery_setup.worker.logs,
    )
    assert notes(shop_container).count("announced crm_deal") == 5
    wait_for(lambda: not portal.ask("progress")["waiting"], "all is acknowledged", 60, celery_setup.worker.logs)
