"""One outcome for every way out of a step, and no word of a handler's error outside of it; a broker that is away."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest
from celery import current_task, shared_task
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from kombu.messaging import Producer

from b24offline.contract import HEADER_WORK
from b24offline.errors import BrokerUnavailable
from b24offline.events import Routes
from b24offline.ledger import BatchKind
from b24offline.tasks import app, chains
from b24offline.tasks import publish as publishing
from b24offline.tasks.steps import Permanent, step
from tests.support.celery_bench import broker, deployed, nowhere
from tests.support.core_events import entry_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis

    from b24offline.delivery import PortalServices
    from b24offline.events import Event
    from b24offline.ledger import RunRef
    from b24offline.runtime import Runtime

__all__ = ["broker", "deployed", "nowhere"]

SECRET = "Mrs. Canary of 12 Elm Street"


@step
def handled(event: Event, how: str) -> dict[str, Any]:
    """End as asked; the errors quote a customer."""
    del event
    if how == "permanent":
        try:
            int(SECRET)
        except ValueError as error:
            raise Permanent("the title is no number") from error
    if how == "retry":
        try:
            int(SECRET)
        except ValueError as error:
            raise current_task.retry(exc=error, countdown=1, max_retries=None) from error
    raised = {
        "error": ValueError(SECRET),
        "mistake": TypeError(SECRET),
        "slow": SoftTimeLimitExceeded(SECRET),
        "end": Ignore(),
        "reject": Reject("not now", requeue=False),
    }
    if how in raised:
        raise raised[how]
    return {"how": how}


@shared_task(name="test.typed")
def typed(reference: dict[str, Any], channel: str) -> None:
    """A task of another application, with typed arguments."""


def typed_step() -> Any:
    return typed.s()


@pytest.fixture
def services(deployed: Callable[..., Runtime]) -> PortalServices:
    return deployed().services("acme")


def begun(services: PortalServices, process_id: str = "p1", *, deal: int = 1) -> RunRef:
    assert services.ledger.open(process_id, [entry_of(deal, None, "piped")], kind=BatchKind.POLLED) is not None
    (handed,) = services.ledger.start(process_id)
    return handed


def run(handed: RunRef, how: str, *, last: bool = True) -> Any:
    """Return what Celery keeps of the step: a result, or the error with its traceback as Flower shows it."""
    header = chains.StepHeader("acme", handed.run, handed.attempt, 0, last, gives_event=True, title="a title")
    task = app.tasks[handled.name]
    request = {
        "id": "1",
        "task": task.name,
        "retries": 0,
        "delivery_info": {"exchange": "", "routing_key": "b24offline.events"},
        "headers": {HEADER_WORK: asdict(header)},
        "args": (how,),
        "kwargs": {},
        "root_id": "1",
    }
    return build_tracer(task.name, task, app=app)("1", (how,), {}, request)


def state(services: PortalServices, run: RunRef) -> tuple[str, ...]:
    return services.ledger.run_fields(run.run, "state", "failures", "crashes", "reason")


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("works", ("succeeded", "0", "0", "")),
        ("end", ("succeeded", "0", "0", "")),
        ("error", ("waiting", "1", "0", "ValueError")),
        ("slow", ("waiting", "1", "0", "SoftTimeLimitExceeded")),
        ("retry", ("waiting", "1", "0", "ValueError")),
        ("reject", ("waiting", "1", "0", "Reject")),
        ("mistake", ("failed", "0", "0", "TypeError")),
        ("permanent", ("failed", "0", "0", "Permanent")),
    ],
)
def test_each_way_out_is_one_outcome_and_says_nothing_of_the_customer(
    services: PortalServices, redis: Redis, how: str, expected: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    handed = begun(services)
    reply = run(handed, how)
    assert state(services, handed) == expected
    assert SECRET not in str(getattr(reply.retval, "traceback", reply.retval))
    assert SECRET not in repr(getattr(reply.retval, "exception", ""))
    assert SECRET not in caplog.text
    assert SECRET not in "".join(redis.lrange("b24offline.events", 0, -1))


@pytest.mark.parametrize(
    ("how", "level", "error", "then", "why"),
    [
        ("error", "WARNING", "ValueError", "again in 2 s", None),
        ("mistake", "ERROR", "TypeError", "nacked", None),
        ("permanent", "ERROR", "Permanent", "nacked", "the title is no number"),
    ],
)
@pytest.mark.parametrize("shown", ["class", "text"])
def test_a_failure_is_one_line_with_its_place(
    deployed: Callable[..., Runtime],
    caplog: pytest.LogCaptureFixture,
    how: str,
    level: str,
    error: str,
    then: str,
    why: str | None,
    shown: str,
) -> None:
    run(begun(deployed(B24_SHOW_ERRORS=shown).services("acme")), how)
    (line,) = [record for record in caplog.records if record.message == "step failed"]
    facts = {"portal": "acme", "event": "ONCRMDEALUPDATE", "object": "crm_deal 1", "pipeline": "piped", "attempt": 1}
    facts |= {"step": "tests.integration.tasks.test_step_outcomes.handled", "error": error, "then": then}
    assert {name: getattr(line, name) for name in facts} == facts
    assert line.levelname == level
    assert getattr(line, "why", None) == (why or (SECRET if shown == "text" else None))
    assert bool(line.exc_info) == (shown == "text")


@pytest.mark.parametrize(
    ("how", "shown", "words"),
    [
        ("permanent", "class", "the title is no number"),
        ("mistake", "class", ""),
        ("mistake", "text", f"TypeError: {SECRET}"),
    ],
)
def test_a_dead_letter_says_what_may_be_shown_of_its_error(
    deployed: Callable[..., Runtime], redis: Redis, how: str, shown: str, words: str
) -> None:
    services = deployed(B24_SHOW_ERRORS=shown).services("acme")
    entry = entry_of(1, None, "piped", nacked=True)
    assert services.ledger.open("p1", [entry], kind=BatchKind.RETRYING) is not None
    (handed,) = services.ledger.start("p1")
    run(handed, how)
    kept = "".join(str(redis.get(key)) for key in redis.scan_iter("*:error:*"))
    assert bool(kept) == bool(words)
    assert (words or "nothing") not in kept, "it is encrypted"
    (exhausted,) = services.ledger.take_overdue().exhausted
    assert services.dead_letter_queue.dead_letter(exhausted) == "dead_lettered"
    (dead_letter,) = services.store.dead_letters.list()
    assert dead_letter.payload["error"].strip().endswith(words)
    assert bool(dead_letter.payload["error"]) == bool(words)


@pytest.mark.parametrize("how", ["error", "mistake", "slow", "retry"])
def test_a_broker_that_is_away_brings_no_text_of_the_error_along(
    services: PortalServices, how: str, broker: Callable[[str], None], nowhere: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    handed = begun(services)
    broker(nowhere)
    reply = run(handed, how)
    assert state(services, handed)[0] == ("failed" if how == "mistake" else "waiting")
    assert SECRET not in str(getattr(reply.retval, "traceback", reply.retval))
    assert SECRET not in caplog.text


def test_a_broker_that_is_away_fails_no_run(
    services: PortalServices, broker: Callable[[str], None], nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes = Routes()
    routes.add(lambda event: handled.s("works"), ("ONCRMDEALUPDATE",), "piped")
    monkeypatch.setattr(chains, "routes", routes)
    first, second = begun(services, "p1", deal=1), begun(services, "p2", deal=2)
    broker(nowhere)
    with pytest.raises(BrokerUnavailable):
        publishing.publish(services, [first, second])
    assert [state(services, run) for run in (first, second)] == [("ready", "0", "0", "")] * 2


def test_a_connection_made_anew_amid_a_batch_is_the_brokers_trouble(
    services: PortalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: Any, **__: Any) -> None:
        raise RuntimeError("Producer channel changed while a publish batch was active")

    routes = Routes()
    routes.add(lambda event: handled.s("works"), ("ONCRMDEALUPDATE",), "piped")
    monkeypatch.setattr(chains, "routes", routes)
    handed = begun(services)
    monkeypatch.setattr(Producer, "publish", lost)
    with pytest.raises(BrokerUnavailable):
        publishing.publish(services, [handed])
    assert state(services, handed)[0] == "ready"


@pytest.mark.parametrize(
    "made",
    [
        lambda: handled.s(object()),
        lambda: handled.s("works") | handled.s(object()),
        lambda: handled.s("works").set(queue="mistyped"),
        lambda: handled.s("works").set(countdown="soon"),
        typed_step,
    ],
    ids=["argument", "argument of a later step", "queue", "countdown", "missing argument"],
)
def test_a_chain_that_cannot_be_sent_fails_its_run_before_anything_is_sent(
    services: PortalServices,
    monkeypatch: pytest.MonkeyPatch,
    made: Callable[[], Any],
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> None:
    routes = Routes()
    routes.add(lambda event: made() if event.record_id == 2 else handled.s("works"), ("ONCRMDEALUPDATE",), "piped")
    monkeypatch.setattr(chains, "routes", routes)
    first, second = begun(services, "p1", deal=1), begun(services, "p2", deal=2)
    sent: list[Any] = []
    monkeypatch.setattr(Producer, "publish", lambda *_, **reply: sent.append(reply["headers"]["task"]))
    assert publishing.publish(services, [second, first]) == 1
    assert [state(services, run)[0] for run in (first, second)] == ["ready", "failed"]
    assert sent[0] == handled.name
    (why,) = [record for record in caplog.records if record.message == "pipeline could not be built"]
    assert "queue" not in request.node.callspec.id or "goes to queue mistyped, which B24_EXTERNAL_QUEUES" in why.why


def test_a_pipeline_that_cannot_be_built_fails_its_run_alone(
    services: PortalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes = Routes()
    routes.add(lambda event: handled.s("works") if event.record_id == 2 else 7, ("ONCRMDEALUPDATE",), "piped")
    monkeypatch.setattr(chains, "routes", routes)
    first, second = begun(services, "p1", deal=1), begun(services, "p2", deal=2)
    assert publishing.publish(services, [first, second]) == 1
    assert [state(services, run)[0] for run in (first, second)] == ["failed", "ready"]
