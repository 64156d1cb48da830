"""Fused pipelines: steps in one message, each with its outcome and retries; what needs a message of its own has one."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from celery import current_task
from celery.app.trace import build_tracer
from celery.exceptions import Ignore

from b24offline import keys
from b24offline.contract import TASK_FAILED, TASK_SETTLE
from b24offline.events import Routes
from b24offline.ledger import BatchKind
from b24offline.tasks import app, chains, steps
from b24offline.tasks import publish as publishing
from b24offline.tasks.steps import Permanent, current, step
from tests.support.celery_bench import broker, deployed
from tests.support.core_events import entry_of, pass_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis

    from b24offline.delivery import PortalServices
    from b24offline.events import Event
    from b24offline.ledger import RunRef
    from b24offline.runtime import Runtime

__all__ = ["broker", "deployed"]

trail: list[tuple[str, Any]] = []
"""Step -> what it was given, in the order in which steps began."""
moods: dict[str, list[Any]] = {}
"""Step -> what it does the next times: a function is called, an error is raised."""


def act(name: str, given: object) -> None:
    assert current_task.name.endswith(f".{name}"), "Celery's current task is another one"
    trail.append((name, given))
    mood = moods[name].pop(0) if moods.get(name) else None
    if callable(mood):
        mood()
    elif mood is not None:
        raise mood


@step
def one(event: Event) -> dict[str, Any]:
    act("one", event.record_id)
    return {"ids": (1, 2)}


@step
def two(given: dict[str, Any], more: str) -> str:
    act("two", [given, more, current().failures])
    return "from two"


@step
def three(given: str) -> None:
    act("three", given)


@pytest.fixture(autouse=True)
def _forget() -> None:
    trail.clear()
    moods.clear()


@pytest.fixture
def _told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger is told of each step, as of those that follow some time after the message began."""
    monkeypatch.setattr(steps, "UNNOTED_SHARE", 0.0)


@pytest.fixture
def services(deployed: Callable[..., Runtime]) -> PortalServices:
    return deployed().services("acme")


@pytest.fixture
def begin(services: PortalServices, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunRef]:
    """Hands out and sends a run of a pipeline; its first message waits in the queue."""

    def make(second: Any = None, third: Any = None, *, fused: bool = True) -> RunRef:
        routes = Routes()
        chain = one.s() | (second or two.s("more")) | (third or three.s())
        routes.add(lambda event: chain, ("ONCRMDEALUPDATE",), "piped", fused=fused)
        for module in (chains, steps):
            monkeypatch.setattr(module, "routes", routes)
        assert services.ledger.open("p1", [entry_of(1, None, "piped")], kind=BatchKind.POLLED) is not None
        (handed,) = services.ledger.start("p1")
        assert publishing.publish(services, [handed]) == 1
        return handed

    return make


def deliver(redis: Redis) -> Any:
    """Run the oldest message of the steps' queue as a worker does; return what Celery keeps of it."""
    message = json.loads(str(redis.rpop("b24offline.events")))
    args, kwargs, embed = json.loads(base64.b64decode(message["body"]))
    headers = message["headers"]
    request = {**headers, **embed, "delivery_info": message["properties"]["delivery_info"], "is_eager": False}
    task = app.tasks[headers["task"]]
    return build_tracer(task.name, task, app=app)(headers["id"], args, kwargs, request).retval


def waiting(redis: Redis) -> list[str]:
    """Return the steps whose messages wait."""
    rows = [json.loads(str(row)) for row in redis.lrange("b24offline.events", 0, -1)]
    return [row["headers"]["task"].rpartition(".")[2] for row in rows]


def names() -> list[str]:
    return [name for name, _ in trail]


def scripts_run(redis: Redis) -> int:
    found = redis.info("commandstats")["cmdstat_evalsha"]
    return int(found["calls"]) - int(found["failed_calls"])


def state(services: PortalServices, run: RunRef) -> tuple[str, ...]:
    return services.ledger.run_fields(run.run, "state", "failures", "position")


ALL = [("one", 1), ("two", [{"ids": [1, 2]}, "more", 0]), ("three", "from two")]
"""What the steps are given, as a message would have carried it."""


def test_all_steps_run_in_the_first_message(
    begin: Callable[..., RunRef], services: PortalServices, redis: Redis
) -> None:
    handed = begin()
    deliver(redis)
    assert trail == ALL
    assert waiting(redis) == []
    assert state(services, handed)[:2] == ("succeeded", "0")
    assert TASK_SETTLE in str(redis.lrange("b24offline.settle", 0, -1))


@pytest.mark.usefixtures("_told")
def test_a_message_that_takes_long_tells_the_ledger_of_each_step(
    begin: Callable[..., RunRef], services: PortalServices, redis: Redis
) -> None:
    handed = begin()
    deliver(redis)
    assert trail == ALL
    assert state(services, handed) == ("succeeded", "0", "2000000")


def test_steps_that_follow_at_once_cost_the_ledger_nothing(begin: Callable[..., RunRef], redis: Redis) -> None:
    begin()
    before = scripts_run(redis)
    deliver(redis)
    assert names() == ["one", "two", "three"]
    assert scripts_run(redis) - before == 2, "its begin and its end"


def test_a_lease_that_was_lost_meanwhile_records_no_error(
    begin: Callable[..., RunRef], services: PortalServices, redis: Redis
) -> None:
    handed = begin()

    def overdue_and_wrong() -> None:
        pass_time(redis, services.ledger, 3600)
        assert services.ledger.take_overdue().runs[0].run == handed.run
        raise ValueError("late")

    moods["two"] = [overdue_and_wrong]
    deliver(redis)
    assert state(services, handed)[:2] == ("ready", "0"), "an error of a replaced attempt was counted"
    assert "three" not in names()


def test_a_message_that_comes_twice_runs_nothing_again(begin: Callable[..., RunRef], redis: Redis) -> None:
    begin()
    redis.lpush("b24offline.events", str(redis.lindex("b24offline.events", 0)))
    assert "nothing to do" not in str(deliver(redis))
    assert "nothing to do" in str(deliver(redis))
    assert trail == ALL


def test_a_retry_goes_on_at_its_step_by_a_message(
    begin: Callable[..., RunRef], services: PortalServices, redis: Redis
) -> None:
    handed = begin()
    moods["two"] = [ValueError("once")]
    assert "goes on by message" in str(deliver(redis))
    assert state(services, handed) == ("waiting", "1", "1000000")
    assert services.ledger.run_fields(handed.run, "failures:1") == ("1",)
    assert waiting(redis) == ["two"]
    deliver(redis)
    assert names() == ["one", "two", "two", "three"], "the first step was repeated, or the third one got lost"
    assert [given[2] for name, given in trail if name == "two"] == [0, 1]
    assert state(services, handed)[0] == "succeeded"
    assert waiting(redis) == []


def test_a_failure_is_that_of_its_step(begin: Callable[..., RunRef], services: PortalServices, redis: Redis) -> None:
    handed = begin()
    moods["two"] = [Permanent("never")]
    assert "Permanent" in repr(deliver(redis))
    assert state(services, handed)[0] == "failed"
    assert names() == ["one", "two"]
    assert waiting(redis) == []


def test_ignore_ends_the_run_as_a_success(begin: Callable[..., RunRef], services: PortalServices, redis: Redis) -> None:
    handed = begin()
    moods["two"] = [Ignore()]
    deliver(redis)
    assert state(services, handed)[0] == "succeeded"
    assert (names(), waiting(redis)) == (["one", "two"], [])


@pytest.mark.parametrize(
    ("second", "name"),
    [
        (lambda: two.s("more").set(queue="b24offline.settle"), "queue"),
        (lambda: two.s("more").set(time_limit=9), "time limit"),
        (lambda: two.s("more").set(headers={"theirs": 1}), "headers"),
    ],
)
def test_a_step_with_needs_of_its_own_has_its_message(
    begin: Callable[..., RunRef], redis: Redis, second: Callable[[], Any], name: str
) -> None:
    begin(second())
    deliver(redis)
    assert names() == ["one"]
    if name == "queue":
        redis.lpush("b24offline.events", str(redis.rpop("b24offline.settle")))
        deliver(redis)
        assert (names(), waiting(redis)) == (["one", "two"], ["three"]), "the third one has the usual queue again"
    deliver(redis)
    assert trail == ALL
    assert waiting(redis) == []


def test_after_steps_in_one_message_the_next_may_have_its_own(begin: Callable[..., RunRef], redis: Redis) -> None:
    begin(third=three.s().set(time_limit=9))
    deliver(redis)
    assert (names(), waiting(redis)) == (["one", "two"], ["three"])
    deliver(redis)
    assert trail == ALL


def test_pipelines_that_are_not_fused_have_a_message_a_step(begin: Callable[..., RunRef], redis: Redis) -> None:
    begin(fused=False)
    for before in (["one"], ["two"], ["three"]):
        assert waiting(redis) == before
        deliver(redis)
    assert trail == ALL


def test_late_in_its_time_limit_a_message_takes_no_further_step(
    begin: Callable[..., RunRef], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "LIMIT_SHARE", 0.0)
    begin()
    deliver(redis)
    assert (names(), waiting(redis)) == (["one"], ["two"])


@pytest.mark.usefixtures("_told")
def test_a_run_that_was_handed_out_again_meanwhile_goes_no_further(
    begin: Callable[..., RunRef], services: PortalServices, redis: Redis
) -> None:
    handed = begin()

    def overdue() -> None:
        pass_time(redis, services.ledger, 3600)
        (again,) = services.ledger.take_overdue().runs
        assert again.run == handed.run

    moods["one"] = [overdue]
    assert "nothing to do" in str(deliver(redis))
    assert (names(), waiting(redis)) == (["one"], [])
    assert state(services, handed)[0] == "ready"


@pytest.mark.usefixtures("_told")
def test_a_step_whose_record_is_gone_does_not_run(
    begin: Callable[..., RunRef], services: PortalServices, redis: Redis
) -> None:
    begin()
    moods["one"] = [lambda: redis.delete(keys.records(services.ledger.stem, "p1"))]
    assert "nothing to do" in str(deliver(redis))
    assert names() == ["one"]


def test_the_message_of_a_retry_carries_what_its_own_would(begin: Callable[..., RunRef], redis: Redis) -> None:
    begin()
    moods["two"] = [ValueError("once")]
    deliver(redis)
    (row,) = [json.loads(str(row)) for row in redis.lrange("b24offline.events", 0, -1)]
    _, _, embed = json.loads(base64.b64decode(row["body"]))
    assert [each["task"] for each in embed["errbacks"]] == [TASK_FAILED]
    assert (row["headers"]["retries"], row["headers"]["b24offline"]["step"]) == (1, 1)
    assert [each["options"]["headers"]["b24offline"]["step"] for each in embed["chain"]] == [2]
