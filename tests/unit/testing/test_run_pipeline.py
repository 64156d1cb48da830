"""A pipeline in this process: outcome, retries, calls and effects are those of a worker."""

from __future__ import annotations

from typing import Any

import pytest
from celery import current_task
from celery.exceptions import Ignore

from b24offline.events import Routes
from b24offline.pipeline import Permanent, current, fetch, handoff, load, step, upsert
from b24offline.rest import Command
from b24offline.tasks import chains, step_errors
from b24offline.testing import event, in_turn, refused, run, run_pipeline

DEAL = {"crm_deal 5": {"STAGE_ID": "WON", "COMPANY_ID": "2"}, "crm_company 2": {"TITLE": "Kaya"}}


@step
def ends(reference: Any, how: str) -> Any:
    """End as asked."""
    raised = {"permanent": Permanent("no company"), "mistake": TypeError("x"), "value": ValueError("y")}
    if how == "ignore":
        raise Ignore
    if how == "retry":
        raise current_task.retry(exc=ValueError("z"), countdown=7, max_retries=1)
    if how in raised:
        raise raised[how]
    return {"object": load(reference).data["STAGE_ID"], "how": how, "try": current().attempt}


@step
def comments(reference: Any, wake_us: bool = False) -> Any:
    """Write back."""
    fields = {"COMMENTS": "seen"}
    current().client.call("crm.deal.update", {"id": reference["object_id"], "fields": fields}, wake_us=wake_us)
    return reference


@step
def comments_in_a_batch(reference: Any) -> None:
    """Read and write in one request."""
    answer = current().client.batch(
        {
            "company": Command("crm.company.get", {"id": "2"}),
            "note": Command("crm.deal.update", {"id": reference["object_id"], "fields": {"COMMENTS": "in a batch"}}),
        }
    )
    assert answer.results["company"]["TITLE"] == "Kaya", answer
    assert not answer.errors


@step
def untransferable(_: Any) -> Any:
    """Return what no message carries."""
    return object()


@pytest.fixture
def routed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Routes deals through one pipeline, as a worker with this module does."""
    routes = Routes()
    for module in (chains, step_errors, run):
        monkeypatch.setattr(module, "routes", routes)

    def add(make: Any, *events: str, name: str = "piped") -> None:
        routes.add(make, events or ("ONCRMDEALUPDATE",), name)

    return add


@pytest.mark.parametrize(
    ("how", "outcome", "error", "waits"),
    [
        ("works", "succeeded", None, []),
        ("ignore", "succeeded", None, []),
        ("permanent", "failed", Permanent, []),
        ("mistake", "failed", TypeError, []),
        ("value", "failed", ValueError, [2.0, 8.0, 30.0, 60.0]),
        ("retry", "failed", ValueError, [7.0]),
    ],
)
def test_an_outcome_and_its_retries(routed: Any, how: str, outcome: str, error: Any, waits: list[float]) -> None:
    routed(lambda _: fetch.s() | ends.s(how))
    ran = run_pipeline("ONCRMDEALUPDATE 5", objects=DEAL)
    assert (ran.outcome, type(ran.error)) == (outcome, error or type(None))
    assert [retry.wait_seconds for retry in ran.retries] == waits
    assert {retry.step for retry in ran.retries} <= {"tests.unit.testing.test_run_pipeline.ends"}
    assert ran.result == ({"object": "WON", "how": "works", "try": 1} if how == "works" else None)


def test_a_nacked_event_that_fails_for_good_is_dead_lettered(routed: Any) -> None:
    routed(lambda _: fetch.s() | ends.s("value"))
    ran = run_pipeline(event("ONCRMDEALUPDATE", 5, nacked=True), objects=DEAL)
    assert (ran.outcome, len(ran.retries)) == ("dead-lettered", 8)


def test_a_portal_that_refuses_for_a_while_costs_no_attempt(routed: Any) -> None:
    routed(lambda _: fetch.s() | comments.s())
    limit = refused(503, "QUERY_LIMIT_EXCEEDED")
    ran = run_pipeline("ONCRMDEALUPDATE 5", objects=DEAL, answers={"crm.deal.update": in_turn(limit, True)})
    assert (ran.outcome, [retry.counted for retry in ran.retries]) == ("succeeded", [False])
    assert [(call.method, call.refusal) for call in ran.writes] == [
        ("crm.deal.update", "QUERY_LIMIT_EXCEEDED"),
        ("crm.deal.update", ""),
    ]
    assert run_pipeline("ONCRMDEALUPDATE 5", objects=DEAL, answers={"crm.deal.update": limit}).outcome == "waiting"


def test_writes_carry_the_connector_and_wake_nobody(routed: Any) -> None:
    routed(lambda _: fetch.s() | comments.s() | comments_in_a_batch.s())
    ran = run_pipeline("ONCRMDEALUPDATE 5", objects=DEAL)
    assert (ran.outcome, ran.woken) == ("succeeded", [])
    assert [call.method for call in ran.writes] == ["crm.deal.update"] * 2
    assert {call.params.get("auth_connector") for call in ran.writes} == {"b24offline"}
    assert not [call for call in ran.calls if not call.writes and "auth_connector" in call.params]
    assert ran.object("crm_deal 5")["COMMENTS"] == "in a batch"


def test_a_write_that_opts_out_wakes_its_own_pipeline(routed: Any) -> None:
    routed(lambda _: fetch.s() | comments.s(wake_us=True))
    assert run_pipeline("ONCRMDEALUPDATE 5", objects=DEAL).woken == ["ONCRMDEALUPDATE"]


def test_what_is_mirrored_handed_off_and_gone(routed: Any) -> None:
    routed(lambda _: fetch.s() | upsert.s() | handoff("shop.announce", 3, queue="shop"))
    ran = run_pipeline("ONCRMDEALUPDATE 5", objects=DEAL, handoffs={"shop.announce": "done"})
    assert ran.mirrored["crm_deal 5"]["STAGE_ID"] == "WON"
    assert [(sent.task, sent.queue, sent.args[1:]) for sent in ran.handed_off] == [("shop.announce", "shop", (3,))]
    assert ran.result == "done"
    assert run_pipeline("ONCRMDEALUPDATE 9").mirrored == {"crm_deal 9": None}


def test_a_result_that_no_message_carries_fails(routed: Any) -> None:
    routed(lambda _: untransferable.s() | ends.s("works"))
    assert type(run_pipeline("ONCRMDEALUPDATE 5").error).__name__ == "NotTransferable"


def test_the_pipeline_must_be_clear(routed: Any) -> None:
    with pytest.raises(ValueError, match="No pipeline takes ONCRMDEALUPDATE"):
        run_pipeline("ONCRMDEALUPDATE 5")
    routed(lambda _: fetch.s(), name="one")
    routed(lambda _: fetch.s(), name="other")
    with pytest.raises(ValueError, match="choose one with pipeline=, of one, other"):
        run_pipeline("ONCRMDEALUPDATE 5")
    with pytest.raises(ValueError, match="does not run through third"):
        run_pipeline("ONCRMDEALUPDATE 5", pipeline="third")
    assert run_pipeline("ONCRMDEALUPDATE 5", pipeline="one", objects=DEAL).outcome == "succeeded"


@pytest.mark.parametrize(
    ("name", "object_id", "entity"),
    [
        ("ONCRMDEALUPDATE", 5, "crm_deal"),
        ("ONTASKADD", "7", "task"),
        ("ONTASKDELETE", "7", "task"),
        ("ONCRMDYNAMICITEMUPDATE_1046", "1046:7", "crm_item"),
    ],
)
def test_an_event_points_to_its_object(name: str, object_id: Any, entity: str) -> None:
    made = event(name, object_id)
    assert made.object is not None
    assert (made.object.entity, made.object.object_id) == (entity, str(object_id))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(("ONNOTHING", 1), "no event of a portal"), (("ONIMCONNECTORLINEDELETE", 1), "does not point to 1")],
)
def test_an_event_that_cannot_be_is_refused(arguments: tuple[Any, ...], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        event(*arguments)


def test_an_object_that_the_emulator_does_not_have_is_refused(routed: Any) -> None:
    routed(lambda _: fetch.s())
    with pytest.raises(ValueError, match="answers="):
        run_pipeline("ONCRMDEALUPDATE 5", objects={"user 5": {}})
