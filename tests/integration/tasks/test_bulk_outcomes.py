"""Chunks of a bulk pipeline: an outcome for each of their runs, whatever becomes of the chunk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Retry
from kombu.messaging import Producer

from b24offline.contract import HEADER_WORK
from b24offline.errors import StoreUnavailable
from b24offline.events import Routes
from b24offline.ledger import BatchKind
from b24offline.pipeline import Chunk, Failed, SomeFailed, bulk_step, step
from b24offline.tasks import app, chains
from b24offline.tasks import publish as publishing
from b24offline.tasks.outcome import chunk_failed
from tests.support.celery_bench import broker, deployed, nowhere
from tests.support.core_events import entry_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from b24offline.delivery import PortalServices
    from b24offline.events import Event
    from b24offline.ledger import RunRef
    from b24offline.runtime import Runtime

__all__ = ["broker", "deployed", "nowhere"]

SECRET = "Mrs. Canary of 12 Elm Street"
seen: list[tuple[int, ...]] = []


@bulk_step
def handled(chunk: Chunk, how: str) -> Any:
    """End as asked, the records 2 and 4 not well."""
    seen.append(tuple(work.event.record_id for work in chunk))
    bad = [work.event for work in chunk if work.event.record_id in {2, 4}]
    if how == "none":
        return None
    if how == "some":
        return [Failed(event, ValueError(SECRET)) for event in bad]
    if how == "raised":
        raise SomeFailed(Failed(event, "no company", final=event.record_id == 4) for event in bad)
    if how == "poison" and bad:
        raise ValueError(SECRET)
    if how == "away":
        raise StoreUnavailable("the mirror's database does not answer")
    if how == "ignore":
        raise Ignore
    if how == "number":
        return len(chunk)
    return []


@step
def single(event: Event) -> None:
    """A step for one event."""


@pytest.fixture
def services(deployed: Callable[..., Runtime]) -> PortalServices:
    seen.clear()
    return deployed().services("acme")


class Broker:
    """What was sent, in the place of a broker; the test delivers it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, how: str = "none", bulk: int | None = 3) -> None:
        self.sent: list[tuple[dict[str, Any], Any]] = []
        routes = Routes()
        routes.add(lambda event: handled.s(how), ("ONCRMDEALUPDATE",), "piped", bulk=bulk)
        monkeypatch.setattr(chains, "routes", routes)
        monkeypatch.setattr(Producer, "publish", self.publish)

    def publish(self, body: Any, headers: Any = None, **_: Any) -> None:
        if "task" in headers:  # else it is an event for Flower
            self.sent.append((headers, body))

    def take(self) -> list[tuple[dict[str, Any], Any]]:
        sent, self.sent = self.sent, []
        return sent

    def chunks(self) -> list[list[str]]:
        """The records of each chunk that is on its way."""
        headers = [headers[HEADER_WORK] for headers, _ in self.sent if HEADER_WORK in headers]
        return [[delivery.partition("@")[0] for delivery, _ in header["runs"]] for header in headers]

    @property
    def settles(self) -> int:
        return sum(1 for headers, _ in self.sent if headers["task"] == "b24offline.settle")


def begun(services: PortalServices, *records: int) -> tuple[RunRef, ...]:
    entries = [entry_of(record, None, "piped") for record in records]
    assert services.ledger.open("p1", entries, kind=BatchKind.POLLED) is not None
    return services.ledger.start("p1")


def deliver(message: tuple[dict[str, Any], Any]) -> Any:
    """Run one message as a worker does. Return what Flower shows: a result, or the error of a failure or a retry."""
    headers, (args, kwargs, embed) = message[0], message[1]
    request = {
        **headers,
        "headers": {HEADER_WORK: headers[HEADER_WORK]},
        "delivery_info": {"exchange": "", "routing_key": "b24offline.events"},
        "args": args,
        "kwargs": kwargs,
        "errbacks": embed["errbacks"],
    }
    task = app.tasks[headers["task"]]
    done = build_tracer(task.name, task, app=app)(headers["id"], args, kwargs, request)
    return done.retval if done.info is None else done.info.retval


def states(services: PortalServices, runs: tuple[RunRef, ...]) -> list[str]:
    return [services.ledger.run_fields(run.run, "state")[0] for run in runs]


def test_runs_share_chunks_and_each_has_its_outcome(services: PortalServices, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(monkeypatch)
    runs = begun(services, 1, 2, 3, 4, 5)
    assert publishing.publish(services, runs) == 5
    assert broker.chunks() == [["1", "2", "3"], ["4", "5"]]
    messages = broker.take()
    assert [headers["argsrepr"] for headers, _ in messages] == [
        "portal=acme pipeline=piped events=3",
        "portal=acme pipeline=piped events=2",
    ]
    assert "Canary" not in json.dumps([headers for headers, _ in messages])
    assert deliver(messages[0]) == "3 succeeded"
    assert broker.settles == 0
    assert deliver(messages[1]) == "2 succeeded"
    assert states(services, runs) == ["succeeded"] * 5
    assert broker.settles == 1, "whoever records the last outcome asks to settle"
    assert seen == [(1, 2, 3), (4, 5)]


def test_a_chunk_that_comes_twice_does_nothing(services: PortalServices, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(monkeypatch)
    publishing.publish(services, begun(services, 1, 2))
    (message,) = broker.take()
    deliver(message)
    assert deliver(message) == "nothing to do: finished, replaced, or delivered twice"
    assert seen == [(1, 2)]


def test_a_run_that_was_replaced_is_left_out_of_its_chunk(
    services: PortalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(monkeypatch)
    runs = begun(services, 1, 2)
    publishing.publish(services, runs)
    services.ledger.succeed(runs[0].run, runs[0].attempt)
    assert deliver(broker.take()[0]) == "1 succeeded"
    assert seen == [(2,)]


def test_an_answer_fails_its_events_and_no_others(
    services: PortalServices, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    broker = Broker(monkeypatch, how="some", bulk=5)
    runs = begun(services, 1, 2, 3, 4, 5)
    publishing.publish(services, runs)
    assert deliver(broker.take()[0]) == "3 succeeded, 2 again"
    assert states(services, runs) == ["succeeded", "waiting", "succeeded", "waiting", "succeeded"]
    assert broker.chunks() == [["2", "4"]], "those that failed come again together"
    lines = [record for record in caplog.records if record.message == "step failed"]
    assert [(line.object, line.error, line.then) for line in lines] == [
        ("crm_deal 2", "ValueError", "again in 2 s"),
        ("crm_deal 4", "ValueError", "again in 2 s"),
    ]
    assert SECRET not in caplog.text
    for _ in range(4):
        deliver(broker.take()[0])
    assert states(services, runs) == ["succeeded", "failed", "succeeded", "failed", "succeeded"]
    assert broker.settles == 1


def test_raised_failures_are_as_good_as_returned_ones(
    services: PortalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(monkeypatch, how="raised", bulk=5)
    runs = begun(services, 1, 2, 4)
    publishing.publish(services, runs)
    assert deliver(broker.take()[0]) == "1 succeeded, 1 again, 1 failed"
    assert states(services, runs) == ["succeeded", "waiting", "failed"]
    assert services.ledger.run_fields(runs[2].run, "reason") == ("Permanent",)


def test_a_chunk_that_fails_whole_is_run_one_by_one(
    services: PortalServices, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Broker(monkeypatch, how="poison", bulk=5)
    runs = begun(services, 1, 2, 3)
    publishing.publish(services, runs)
    shown = deliver(broker.take()[0])
    assert isinstance(shown, Retry)
    assert SECRET not in repr(shown) + repr(shown.exc) + caplog.text
    assert broker.chunks() == [["1"], ["2"], ["3"]]
    assert [services.ledger.run_fields(run.run, "failures") for run in runs] == [("0",)] * 3, "no attempt is counted"
    for message in broker.take():
        deliver(message)
    assert states(services, runs) == ["succeeded", "waiting", "succeeded"]
    assert services.ledger.run_fields(runs[1].run, "failures") == ("1",)
    assert broker.chunks() == [["2"]]


def test_what_concerns_no_event_makes_the_chunk_wait_as_one(
    services: PortalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(monkeypatch, how="away", bulk=5)
    runs = begun(services, 1, 2, 3)
    publishing.publish(services, runs)
    for _ in range(7):
        assert isinstance(deliver(broker.take()[0]), Retry)
        assert broker.chunks() == [["1", "2", "3"]]
    assert [services.ledger.run_fields(run.run, "state", "failures") for run in runs] == [("waiting", "0")] * 3


@pytest.mark.parametrize("how", ["ignore", "well"])
def test_what_names_no_failure_is_success(services: PortalServices, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    broker = Broker(monkeypatch, how=how)
    runs = begun(services, 1, 2)
    publishing.publish(services, runs)
    deliver(broker.take()[0])
    assert states(services, runs) == ["succeeded"] * 2


def test_an_answer_that_is_none_fails_each_event_for_good(
    services: PortalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(monkeypatch, how="number")
    runs = begun(services, 1, 2)
    publishing.publish(services, runs)
    deliver(broker.take()[0])
    for message in broker.take():
        shown = deliver(message)
        assert "a bulk step returns nothing or Failed" in str(shown)
    assert states(services, runs) == ["failed"] * 2


def test_a_chunk_whose_process_died_is_run_one_by_one(
    services: PortalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(monkeypatch)
    runs = begun(services, 1, 2, 3)
    publishing.publish(services, runs)
    ((_, (_, _, embed)),) = broker.take()
    (errback,) = embed["errbacks"]
    assert chunk_failed(**errback["kwargs"]) == "counted 3"
    assert chunk_failed(**errback["kwargs"]) == "counted 0", "of one attempt one crash is counted"
    for run in runs:
        services.redis.zadd(f"{services.ledger.stem}:due", {f"run:{run.run}": 1})
    publishing.publish(services, services.ledger.take_overdue().runs)
    assert broker.chunks() == [["1"], ["2"], ["3"]]


def test_the_next_runs_of_the_objects_share_a_chunk_again(
    services: PortalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(monkeypatch)
    entries = [entry_of(record, str(record % 2), "piped") for record in range(1, 7)]
    assert services.ledger.open("p1", entries, kind=BatchKind.POLLED) is not None
    publishing.publish(services, services.ledger.start("p1"))
    assert broker.chunks() == [["1", "2"]], "of each object the first only"
    while messages := [message for message in broker.take() if HEADER_WORK in message[0]]:
        for message in messages:
            deliver(message)
    assert seen == [(1, 2), (3, 4), (5, 6)]


@pytest.mark.parametrize(
    ("bulk", "made"),
    [
        (None, lambda: handled.s("none")),
        (5, single.s),
        (5, lambda: handled.s("none") | single.s()),
        (5, lambda: handled.si("none")),
        (5, lambda: handled.s(object())),
        (5, lambda: handled.s("none").set(queue="mistyped")),
        (5, lambda: handled.s("none").set(countdown="soon")),
    ],
    ids=["no bulk route", "a step for one", "two steps", "immutable", "argument", "queue", "option"],
)
def test_a_bulk_pipeline_that_cannot_be_sent_fails_its_run_alone(
    services: PortalServices, monkeypatch: pytest.MonkeyPatch, bulk: int | None, made: Callable[[], Any]
) -> None:
    broker = Broker(monkeypatch, bulk=bulk)
    good = handled.s("none") if bulk else single.s()
    routes = Routes()
    routes.add(lambda event: made() if event.record_id == 2 else good, ("ONCRMDEALUPDATE",), "piped", bulk=bulk)
    monkeypatch.setattr(chains, "routes", routes)
    runs = begun(services, 1, 2, 3)
    assert publishing.publish(services, runs) == 2
    assert states(services, runs) == ["ready", "failed", "ready"]
    assert len(broker.sent) == (1 if bulk else 2)
