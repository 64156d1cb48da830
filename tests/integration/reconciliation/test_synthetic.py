"""Events without a record: their batches live in the ledger alone, and no call of the queue can be built for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b24offline.delivery import run_of_dead_letter
from b24offline.events import Event, ObjectKey, Routes, object_id_from, shipped_catalogue
from b24offline.ledger import MAX_HELD_ATTEMPTS, SYNTHETIC_PREFIX, PollLease, RunRef, is_synthetic
from b24offline.reconciliation.synthetic import event_fits, payload_of, synthetic_event, update_events
from b24offline.rest import ClearOrder, NackOrder, NackRules, OfflineQueue, UnsafeCall
from tests.support.core_events import (
    PIPELINE,
    PORTAL,
    STAMP,
    TIMERS,
    Recorder,
    entry_of,
    opened,
    ran,
    record_of,
    reserve,
    run_state,
)
from tests.support.deployment import UPDATE, Deployment
from tests.support.portal_desk import CONNECTOR

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

CATALOGUE = shipped_catalogue()
KINDS = [kind for kind in CATALOGUE.kinds if kind.id_path and "{" not in kind.name]
part = st.integers(1, 10**12).map(str)


def deal(number: int) -> ObjectKey:
    return ObjectKey(PORTAL, "crm_deal", str(number))


@pytest.fixture
def acme(redis: Redis, tmp_path: Path) -> Deployment:
    return Deployment(redis, tmp_path, B24_MAX_IN_FLIGHT_BATCHES="1")


def opened_for(acme: Deployment, *numbers: int, batch: str = "one", stamp: str = STAMP) -> tuple[str, list[RunRef]]:
    """Open a synthetic batch of deals and begin its runs."""
    wanted = [(UPDATE, deal(number), stamp, (PIPELINE,)) for number in numbers]
    process_id = acme.synthetic.open(batch, wanted)
    assert process_id is not None
    return process_id, [ran(acme.ledger, run) for run in acme.ledger.start(process_id)]


def events(acme: Deployment, process_id: str) -> list[Event]:
    return list(acme.ledger.events(process_id).values())


@given(kind=st.sampled_from(KINDS), parts=st.lists(part, min_size=3, max_size=3))
def test_the_payload_points_to_the_object(kind: Any, parts: list[str]) -> None:
    wanted = ":".join(parts[: kind.id_path.count("+") + 1])
    assert object_id_from(payload_of(kind, wanted), kind) == wanted
    assert event_fits(kind.name.lower(), wanted, kind.entity, CATALOGUE)
    assert not event_fits(kind.name, wanted, f"{kind.entity}s", CATALOGUE)


@pytest.mark.parametrize(
    ("routed", "entity", "object_id", "name"),
    [
        (UPDATE, "crm_deal", "7", UPDATE),
        ("ONCRMDEALADD", "crm_deal", "7", None),
        ("ONCRMDYNAMICITEMUPDATE", "crm_item", "1046:7", "ONCRMDYNAMICITEMUPDATE"),
        ("ONCRMDYNAMICITEMUPDATE_1046", "crm_item", "1046:7", "ONCRMDYNAMICITEMUPDATE_1046"),
        ("ONCRMDYNAMICITEMUPDATE_1046", "crm_item", "1050:7", None),
        ("ONCRMDYNAMICITEMUPDATE", "crm_item", "7", None),
        ("ONTASKUPDATE", "task", "7", "ONTASKUPDATE"),
        ("ONTASKUPDATE", "crm_deal", "7", None),
    ],
)
def test_the_update_event_is_one_that_has_a_route(routed: str, entity: str, object_id: str, name: str | None) -> None:
    routes = Routes()
    routes.add(lambda event: event, (routed,), PIPELINE)
    assert next(update_events(entity, object_id, CATALOGUE, routes), None) == name


def test_an_event_of_another_object_is_not_built() -> None:
    with pytest.raises(ValueError, match="is no event of"):
        synthetic_event("ONTASKUPDATE", deal(1), STAMP, -1, CATALOGUE)


REFUSED = f"{SYNTHETIC_PREFIX}1795-ab-0"


def orders(process_id: str) -> list[Any]:
    rules = NackRules(minimum_age_ms=75_000, look_valid_ms=30_000)
    times = {"first_seen_ms": 1_000, "looked_ms": 80_000, "now_ms": 81_000, "lease_until_ms": 90_000}
    rows = (record_of(1, PROCESS_ID=process_id),)
    queue = OfflineQueue(Recorder([]), PORTAL, CONNECTOR)
    return [
        lambda: ClearOrder(process_id, (1,)),
        lambda: NackOrder(process_id=process_id, records=rows, newer={1: False}, rules=rules, **times),
        lambda: queue.reread(process_id),
    ]


@pytest.mark.parametrize("number", range(3))
def test_no_call_can_be_built_for_a_synthetic_batch(number: int) -> None:
    orders("a" * 32)[number]()
    assert is_synthetic(REFUSED)
    with pytest.raises(UnsafeCall, match="process id"):
        orders(REFUSED)[number]()


def test_no_synthetic_record_can_be_cleared(acme: Deployment) -> None:
    process_id, _ = opened_for(acme, 1)
    (event,) = events(acme, process_id)
    with pytest.raises(UnsafeCall, match="record id"):
        ClearOrder("a" * 32, (event.record_id,))


def test_a_portal_that_names_a_reservation_so_is_not_believed() -> None:
    answer = {"process_id": REFUSED, "events": [{"ID": "1"}]}
    with pytest.raises(Exception, match="no usable process_id"):
        reserve(OfflineQueue(Recorder(answer), PORTAL, CONNECTOR), 1)


def test_what_succeeds_is_dropped_without_a_call(acme: Deployment) -> None:
    process_id, (first, second) = opened_for(acme, 1, 2)
    acme.ledger.succeed(first.run, first.attempt)
    assert acme.settler.settle(process_id).state == "open"
    assert len(events(acme, process_id)) == 1
    acme.ledger.succeed(second.run, second.attempt)
    assert acme.settler.settle(process_id).state == "closed"
    assert acme.desk.calls == []
    assert acme.ledger.counters()["events_synthetic"] == acme.ledger.counters()["synthetic_done"] == 2
    assert acme.redis.zcard(f"{acme.ledger.stem}:due") == 0


def test_what_fails_is_retrying_dead_lettered_and_ends_as_a_person_says(acme: Deployment) -> None:
    process_id, (handed,) = opened_for(acme, 1)
    for number in range(MAX_HELD_ATTEMPTS):
        assert acme.ledger.reschedule_run(handed.run, handed.attempt, None, counted=True, reason="ValueError")
        acme.later(TIMERS.redrive_backoff_seconds[min(number, 5)] + 1)
        overdue = acme.ledger.take_overdue()
        for handed in overdue.runs:
            ran(acme.ledger, handed)
    (exhausted,) = overdue.exhausted
    assert acme.dead_letter_queue.dead_letter(exhausted) == "dead_lettered"
    assert acme.settler.settle(process_id).state == "open"
    assert acme.synthetic.open_batches() == 0, "a dead-lettered one keeps others out"
    (dead_letter,) = acme.store.dead_letters.list(PORTAL)
    assert (dead_letter.object, run_of_dead_letter(dead_letter)) == ("crm_deal 1", handed.run)
    assert acme.dead_letter_queue.drop(handed.run, "somebody") == "dropped"
    assert acme.settler.settle(process_id).state == "closed"
    assert acme.store.dead_letters.list(PORTAL) == []
    assert acme.desk.calls == []


def test_crashes_do_not_fail_it(acme: Deployment) -> None:
    process_id, (handed,) = opened_for(acme, 1)
    for _ in range(4):
        assert acme.ledger.crash(handed.run, handed.attempt, backoff_seconds=1).recorded
        assert run_state(acme.redis, acme.ledger, handed.run) == "waiting"
        acme.later(TIMERS.redrive_backoff_seconds[0] + 5)
        (handed,) = acme.ledger.take_overdue().runs
        ran(acme.ledger, handed)
    assert acme.settler.settle(process_id).state == "open"


def test_it_waits_for_a_run_of_the_same_object_and_is_waited_for(acme: Deployment) -> None:
    (before,) = opened(acme.ledger, "p1", entry_of(1, "1"))
    _, handed = opened_for(acme, 1)
    assert handed == []
    ran(acme.ledger, before)
    following = acme.ledger.succeed(before.run, before.attempt).next
    assert following is not None
    ran(acme.ledger, following)
    assert opened(acme.ledger, "p2", entry_of(2, "1")) == ()


def test_it_keeps_no_poll_out(acme: Deployment) -> None:
    opened_for(acme, 1)
    opened_for(acme, 2, batch="two")
    assert isinstance(acme.fencing.take_poll_lease(1, gate=True), PollLease)
    assert acme.synthetic.open_batches() == 2
    assert acme.synthetic.objects() == {deal(1), deal(2)}


def test_a_second_injection_of_an_open_batch_does_nothing(acme: Deployment) -> None:
    opened_for(acme, 1)
    assert acme.synthetic.open("one", [(UPDATE, deal(1), STAMP, (PIPELINE,))]) is None
    assert acme.ledger.counters()["events_synthetic"] == 1


def test_record_ids_are_negative_and_grow_even_when_the_ledger_was_lost(acme: Deployment) -> None:
    numbers = []
    for batch in ("a", "b", "c"):
        numbers += sorted(event.record_id for event in events(acme, opened_for(acme, 1, 2, batch=batch)[0]))
        acme.redis.flushall()
    assert numbers == sorted(set(numbers))
    assert -(2**53) < numbers[0] <= numbers[-1] < 0


def test_the_key_is_that_of_the_missed_state(acme: Deployment) -> None:
    keyed = []
    for batch, stamp in (("a", STAMP), ("b", STAMP), ("c", "2026-04-03T08:44:11+02:00")):
        keyed += events(acme, opened_for(acme, 1, batch=batch, stamp=stamp)[0])
    first, again, later = (event.idempotency_key(PIPELINE) for event in keyed)
    assert first == again == "acme:synthetic:crm_deal:1@1775198650:deal_changed"
    assert later != first
    assert Event.from_json(keyed[0].to_json()) == keyed[0]


def test_a_newer_success_ends_an_older_one_that_waits(acme: Deployment) -> None:
    old, (handed,) = opened_for(acme, 1)
    acme.ledger.reschedule_run(handed.run, handed.attempt, None, counted=True, reason="ValueError")
    acme.later(2)
    _, (newer,) = opened_for(acme, 1, batch="two")
    acme.ledger.succeed(newer.run, newer.attempt)
    assert run_state(acme.redis, acme.ledger, handed.run) == "superseded"
    assert acme.settler.settle(old).state == "closed"
    assert acme.desk.calls == []
