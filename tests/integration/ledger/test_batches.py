"""Batches in the ledger: opened once, started once, opened again, forgotten."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest

from b24offline.events import ObjectKey
from b24offline.ledger import BatchKind, Completion, Entry, PollLease, RunRef, SettleLease
from tests.support.core_events import (
    PIPELINE,
    TIMERS,
    due_times,
    entry_of,
    event_of,
    guard_on,
    ledger_on,
    opened,
    pass_time,
    polled_before,
    ran,
    run_of,
    run_state,
)

if TYPE_CHECKING:
    from redis import Redis


def close(redis: Redis, process_id: str) -> str:
    ledger = ledger_on(redis)
    settling = ledger.begin_settle(process_id)
    assert isinstance(settling, SettleLease)
    return ledger.end_settle(settling, settling.outcomes, 1)


def test_opening_writes_everything_in_one_step(redis: Redis) -> None:
    ledger = ledger_on(redis)
    assert ledger.open("p1", [entry_of(1), entry_of(2, None, "a", "b")], kind=BatchKind.POLLED) == 3
    assert list(ledger.open_batches()) == ["p1"]
    assert ledger.events("p1") == {1: event_of(1), 2: event_of(2)}
    assert ledger.event_of(run_of(2, "b")) == (event_of(2), "default")
    assert ledger.event_of("9@9/none") is None
    due = due_times(redis, ledger)
    assert set(due) == {f"run:{run_of(1)}", f"run:{run_of(2, 'a')}", f"run:{run_of(2, 'b')}", "batch:p1"}
    assert all(0 < seconds <= TIMERS.settle_due_seconds for seconds in due.values())
    assert ledger.counters() == {"events_seen": 2, "batches_polled": 1}


def test_opening_again_changes_nothing(redis: Redis) -> None:
    ledger = ledger_on(redis)
    opened(ledger, "p1", entry_of(1))
    assert ledger.open("p1", [entry_of(1), entry_of(2)], kind=BatchKind.ADOPTED) is None
    assert list(ledger.events("p1")) == [1]
    assert ledger.counters()["events_seen"] == 1


def test_opening_needs_the_lease_it_names_and_uses_it_up(redis: Redis) -> None:
    ledger = ledger_on(redis)
    fencing = guard_on(redis, ledger)
    lease = fencing.take_poll_lease(None)
    assert isinstance(lease, PollLease)
    assert ledger.open("p1", [entry_of(1)], kind=BatchKind.POLLED, poll_token="another") is None
    assert ledger.open_batches() == {}
    assert ledger.open("p1", [entry_of(1)], kind=BatchKind.POLLED, poll_token=lease.token) == 1
    assert ledger.open("p2", [entry_of(2)], kind=BatchKind.POLLED, poll_token=lease.token) is None
    assert isinstance(fencing.take_poll_lease(lease.epoch), PollLease)


def test_a_lease_taken_over_by_another_poll_opens_nothing(redis: Redis) -> None:
    ledger = ledger_on(redis)
    fencing = guard_on(redis, ledger)
    late = fencing.take_poll_lease(None)
    assert isinstance(late, PollLease)
    pass_time(redis, ledger, TIMERS.poll_lease_seconds + 1)
    assert isinstance(fencing.take_poll_lease(late.epoch), PollLease)
    assert ledger.open("p1", [entry_of(1)], kind=BatchKind.POLLED, poll_token=late.token) is None


def test_each_run_is_handed_out_once(redis: Redis) -> None:
    ledger = ledger_on(redis)
    handed = opened(ledger, "p1", entry_of(1), entry_of(2))
    assert {one.run: one.attempt for one in handed} == {run_of(1): 1, run_of(2): 1}
    assert {one.pipeline for one in handed} == {PIPELINE}
    assert ledger.start("p1") == ()
    assert ledger.start("unknown") == ()


def test_a_run_in_the_queue_has_a_longer_due_time_than_one_running(redis: Redis) -> None:
    ledger = ledger_on(redis)
    (handed,) = opened(ledger, "p1", entry_of(1))
    assert due_times(redis, ledger)[f"run:{handed.run}"] > TIMERS.run_queue_seconds - 5
    ran(ledger, handed)
    assert TIMERS.lease_seconds - 5 < due_times(redis, ledger)[f"run:{handed.run}"] <= TIMERS.lease_seconds


@pytest.mark.parametrize("skip", ["succeeded", "failed"])
def test_a_record_without_pipeline_has_its_outcome_at_once(redis: Redis, skip: str) -> None:
    ledger = ledger_on(redis)
    assert ledger.open("p1", [Entry(event_of(1), skip=skip)], kind=BatchKind.POLLED) == 0  # type: ignore[arg-type]
    settling = ledger.begin_settle("p1")
    assert isinstance(settling, SettleLease)
    assert settling.outcomes == {1: skip}
    assert settling.events == {1: event_of(1)}


def test_an_object_shares_its_object_queue_over_events_and_batches(redis: Redis) -> None:
    ledger = ledger_on(redis)
    first = opened(ledger, "p1", entry_of(1, "7"), entry_of(2, "7", action="delete"))
    assert first == (RunRef(run_of(1), 1),)
    assert opened(ledger, "p2", entry_of(3, "7")) == ()
    assert opened(ledger, "p3", entry_of(4, "8")) == (RunRef(run_of(4), 1),)
    assert ledger.succeed(*pair(ran(ledger, first[0]))).next == RunRef(run_of(2), 1)


def pair(handed: RunRef) -> tuple[str, int]:
    return handed.run, handed.attempt


def test_records_without_object_do_not_wait_for_each_other(redis: Redis) -> None:
    ledger = ledger_on(redis)
    one, other = (event_of(i, object=None) for i in (1, 2))
    assert len(opened(ledger, "p1", Entry(one, ("a",)), Entry(other, ("a",)))) == 2


def test_object_queues_tell_entities_apart(redis: Redis) -> None:
    ledger = ledger_on(redis)
    deal, lead = event_of(1, "7"), event_of(2, "7", object=ObjectKey("acme", "crm_lead", "7"))
    assert ledger.object_queue(deal, "a") != ledger.object_queue(lead, "a")
    assert ledger.object_queue(deal, "a") != ledger.object_queue(deal, "b")


def test_portals_do_not_share_anything(redis: Redis) -> None:
    one, other = ledger_on(redis), ledger_on(redis, portal="other")
    (handed,) = opened(one, "p1", entry_of(1))
    assert other.open_batches() == {}
    assert other.begin_step(handed.run, handed.attempt, 0) is None
    assert opened(other, "p1", entry_of(1)) == (handed,)


def test_the_texts_of_the_scripts_are_kept_once_for_all_portals(redis: Redis) -> None:
    ledger_on(redis).start("p1")
    tracemalloc.start()
    try:
        ledgers = [ledger_on(redis, portal=f"portal{number}") for number in range(100)]
        for ledger in ledgers:
            ledger.start("p1")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept / len(ledgers) < 4_000


def test_a_closed_batch_leaves_nothing(redis: Redis) -> None:
    ledger = polled_before(redis, ledger_on(redis))
    (handed,) = opened(ledger, "p1", entry_of(1))
    ledger.succeed(*pair(ran(ledger, handed)))
    assert close(redis, "p1") == "closed"
    left = {key.removeprefix(ledger.stem) for key in redis.scan_iter(f"{ledger.stem}:*")}
    assert left == {":stats", ":fencing"}


def test_late_messages_of_a_closed_batch_change_nothing(redis: Redis) -> None:
    ledger = ledger_on(redis)
    (handed,) = opened(ledger, "p1", entry_of(1))
    late = ledger.begin_settle("p1")
    assert isinstance(late, SettleLease)
    assert ledger.end_settle(late, (), 1) == "open"
    ledger.succeed(*pair(ran(ledger, handed)))
    assert close(redis, "p1") == "closed"
    before = {key: redis.dump(key) for key in redis.scan_iter()}
    run, attempt, nothing = handed.run, handed.attempt, Completion(recorded=False, next=None, settleable=())
    assert ledger.start("p1") == ()
    assert ledger.postpone("p1", 1) == 0
    assert all(ledger.begin_step(run, number, step * 1_000_000) is None for number in (1, 2, 9) for step in (0, 1, 2))
    assert not ledger.renew(run, attempt, 0)
    assert not ledger.pass_on(run, attempt, 0)
    assert not ledger.retry_step(run, attempt, 1, counted=True, reason="late")
    assert not ledger.reschedule_run(run, attempt, 1, counted=True, reason="late")
    assert not ledger.reschedule_run(run, attempt, None, counted=True, reason="late")
    assert ledger.succeed(run, attempt) == nothing
    assert ledger.fail(run, attempt, "late", backoff_seconds=1) == nothing
    assert ledger.crash(run, attempt, backoff_seconds=1) == nothing
    assert ledger.begin_settle("p1") == "gone"
    assert ledger.end_settle(late, [1], 1) == "lost"
    assert ledger.transition("open_in_doubt_window", "p1", late.token, 1000, '["m"]') == 0
    assert {key: redis.dump(key) for key in redis.scan_iter()} == before


def test_adoption_opens_a_closed_process_id_again(redis: Redis) -> None:
    ledger = ledger_on(redis)
    (handed,) = opened(ledger, "p1", entry_of(1))
    ledger.succeed(*pair(ran(ledger, handed)))
    close(redis, "p1")
    assert opened(ledger, "p1", entry_of(1), kind=BatchKind.ADOPTED, first_seen_ms=5) == (RunRef(run_of(1), 1),)
    settling = ledger.begin_settle("p1")
    assert isinstance(settling, SettleLease)
    assert (ledger.kind("p1"), settling.first_seen_ms, settling.outcomes) == (BatchKind.ADOPTED, 5, {1: "unfinished"})


def test_a_record_under_two_process_ids_runs_once_and_settles_in_both(redis: Redis) -> None:
    ledger = ledger_on(redis)
    (handed,) = opened(ledger, "p1", entry_of(1))
    assert opened(ledger, "p2", entry_of(1), entry_of(2)) == (RunRef(run_of(2), 1),)
    ran(ledger, handed)
    assert ledger.succeed(*pair(handed)) == Completion(recorded=True, next=None, settleable=("p1",))
    assert close(redis, "p1") == "closed"
    assert run_state(redis, ledger, run_of(1)) == "succeeded"
    assert ledger.succeed(*pair(ran(ledger, RunRef(run_of(2), 1)))).settleable == ("p2",)
    settling = ledger.begin_settle("p2")
    assert isinstance(settling, SettleLease)
    assert settling.outcomes == {1: "succeeded", 2: "succeeded"}


def test_a_succeeded_record_under_a_second_process_id_is_not_run_again(redis: Redis) -> None:
    ledger = ledger_on(redis)
    (handed,) = opened(ledger, "p1", entry_of(1))
    ledger.succeed(*pair(ran(ledger, handed)))
    assert ledger.open("p2", [entry_of(1)], kind=BatchKind.POLLED) == 0
    assert ledger.start("p2") == ()
    pass_time(redis, ledger, TIMERS.settle_due_seconds + 1)
    assert ledger.take_overdue().runs == ()
    assert close(redis, "p2") == "closed"
    assert close(redis, "p1") == "closed"
    assert run_state(redis, ledger, run_of(1)) is None


def test_the_same_record_twice_in_one_batch_runs_once(redis: Redis) -> None:
    ledger = ledger_on(redis)
    (handed,) = opened(ledger, "p1", entry_of(1), entry_of(1))
    assert ledger.succeed(*pair(ran(ledger, handed))).settleable[-1:] == ("p1",)
    assert close(redis, "p1") == "closed"


def test_forgetting_frees_the_object_queues(redis: Redis) -> None:
    ledger = ledger_on(redis)
    opened(ledger, "p1", entry_of(1, "7"))
    opened(ledger, "p2", entry_of(2, "7"))
    ledger.forget("p1")
    assert ledger.begin_settle("p1") == "gone"
    assert run_state(redis, ledger, run_of(1)) is None
    assert redis.lrange(ledger.object_queue(event_of(2, "7"), PIPELINE), 0, -1) == [run_of(2)]
    pass_time(redis, ledger, TIMERS.dispatch_due_seconds + 1)
    assert ledger.take_overdue().runs == (RunRef(run_of(2), 1),)


def test_forgetting_keeps_a_run_that_another_batch_shares(redis: Redis) -> None:
    ledger = ledger_on(redis)
    (handed,) = opened(ledger, "p1", entry_of(1))
    opened(ledger, "p2", entry_of(1))
    ledger.forget("p1")
    ledger.open("p1", [entry_of(1), entry_of(2)], kind=BatchKind.ADOPTED)
    assert ledger.succeed(*pair(ran(ledger, handed))).settleable == ("p2",)
