"""Reconciliation: what counts as missed, how far it looks back, and a whole one against an emulated portal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b24offline import runtime
from b24offline.cli.reconcile import parsed_moment_ms, sentences
from b24offline.emulator import EmulatorProcess, matching
from b24offline.errors import NotAdministrator, QueryLimitExceeded
from b24offline.events import Routes
from b24offline.ledger import JobQueue, Reconciled, last_reconciled, save_reconciled
from b24offline.reconciliation import Job, Reconciler
from b24offline.reconciliation.history import covered_ms, ended, is_due, since_ms
from b24offline.reconciliation.reconciler import NO_UPDATE, NOT_LISTED, NOT_MIRRORED, missed
from b24offline.rest import Listed, bind_events
from b24offline.store import Reading
from tests.support.core_events import PIPELINE, PORTAL, reserve
from tests.support.deployment import Deployment, passed_on
from tests.support.live_portal import LivePortal, live
from tests.support.portal_desk import CONNECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from redis import Redis

__all__ = ["live"]

START = datetime(2026, 4, 3, tzinfo=UTC)
moments = st.integers(0, 6).map(lambda hours: START + timedelta(hours=hours))
listed = st.dictionaries(st.integers(1, 6).map(str), st.none() | moments).map(
    lambda rows: [Listed(one, moment) for one, moment in rows.items()]
)
known = st.dictionaries(st.integers(1, 6).map(str), moments)
NOW = 1_800_000_000_000


@given(rows=listed, mirrored=known, until=moments)
def test_an_object_is_missed_when_the_mirror_is_behind_what_had_its_time(
    rows: list[Listed], mirrored: Mapping[str, datetime], until: datetime
) -> None:
    found, fresh = missed(rows, mirrored, until)
    assert fresh == sum(1 for one in rows if one.changed_at and one.changed_at > until)
    for one in rows:
        late = one.changed_at is not None and one.changed_at > until
        behind = one.object_id not in mirrored or (
            one.changed_at is not None and one.changed_at > mirrored[one.object_id]
        )
        assert (one in found) == (behind and not late)
    caught_up = mirrored | {one.object_id: one.changed_at or START for one in found}
    assert missed(rows, caught_up, until) == ([], fresh)


spans = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=8)


@given(looks=spans)
def test_what_counts_as_covered_was_looked_at(looks: list[tuple[int, int]]) -> None:
    """Times are small numbers; each look is (from, to), the portal was added at 3: what was before is nobody's."""
    last: Reconciled | None = None
    seen: set[int] = set()
    for since, until in looks:
        seen |= set(range(since, until))
        covered = covered_ms(last, 3, since, until)
        last = Reconciled(until, "", since, covered, 0, 0, 0)
        assert set(range(3, covered)) <= seen
        assert since_ms(last, created_ms=3, now_ms=60, period_ms=60, overlap_ms=2) <= covered


def test_the_first_one_looks_a_period_back_but_not_before_the_portal_was_added() -> None:
    times = {"now_ms": NOW, "period_ms": 1000, "overlap_ms": 10}
    assert since_ms(None, created_ms=NOW - 300, **times) == NOW - 300
    assert since_ms(None, created_ms=NOW - 3000, **times) == NOW - 1000
    assert not is_due(None, created_ms=NOW - 999, now_ms=NOW, period_ms=1000)
    assert is_due(None, created_ms=NOW - 1000, now_ms=NOW, period_ms=1000)


def test_short_looks_by_hand_do_not_put_the_regular_one_off() -> None:
    hour, period = 3_600_000, 24 * 3_600_000
    last = ended(Job("daily", NOW - period, until_ms=NOW), None, NOW, NOW - period)
    for hours in range(2, 30):
        now = NOW + hours * hour
        last = ended(Job("by hand", now - hour // 2, until_ms=now), last, now, NOW)
        assert (last.at_ms, last.covered_ms) == (now, NOW)
        assert is_due(last, created_ms=0, now_ms=now, period_ms=period) == (hours >= 24)
    whole = ended(Job("daily", NOW - 60, until_ms=now), last, now, NOW)
    assert not is_due(whole, created_ms=0, now_ms=now + period - 1, period_ms=period)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("36h", NOW - 36 * 3_600_000),
        ("1970-01-02", 86_400_000),
        ("1970-01-02T01:00+01:00", 86_400_000),
        ("1970-01-02T00:00:00Z", 86_400_000),
    ],
)
def test_a_person_says_since_when(text: str, expected: int) -> None:
    assert parsed_moment_ms(text, NOW) == expected


@pytest.mark.parametrize("text", ["yesterday", "36", "9999-01-01", "1960-01-01", ""])
def test_a_wrong_since_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"neither|not in the past"):
        parsed_moment_ms(text, NOW)


def test_dates_in_filters_are_compared_as_moments() -> None:
    rows = [{"ID": 1, "D": "2026-04-03T10:00:00+02:00"}, {"ID": 2, "D": "2026-04-03T10:00:01+02:00"}]
    assert [row["ID"] for row in matching(rows, {">=D": "2026-04-03T08:00:01+00:00"}, str.upper)] == [2]


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorProcess]:
    with EmulatorProcess(objects=720) as process:
        yield process


@pytest.fixture
def acme(redis: Redis, tmp_path: Path, live: LivePortal, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """Return a deployment whose deals and items are mirrored; events arrive at once."""
    routes = Routes()
    routes.add(passed_on, ("ONCRMDEALUPDATE", "ONCRMDEALADD"), PIPELINE, mirrors={"crm_deal"})
    routes.add(passed_on, ("ONCRMDYNAMICITEMUPDATE",), "items", mirrors={"crm_item"})
    routes.add(passed_on, ("ONCRMLEADUPDATE",), "leads")
    routes.add(passed_on, ("ONCRMQUOTEUPDATE",), "quotes")
    monkeypatch.setattr(runtime, "GRACE_SECONDS", 0.0)
    return Deployment(redis, tmp_path, client=live.client, routes=routes)


def worker(acme: Deployment) -> Reconciler:
    """Return a reconciler that remembers nothing, as that of another worker."""
    return acme.runtime.reconciler(PORTAL)


def reconciled(acme: Deployment, **about: Any) -> Job:
    """Do a whole reconciliation of deals and items, each step from what the one before wrote down."""
    job = Job("by hand", about.pop("since_ms", 0), **about)
    worker(acme).begin(job)
    while not job.done:
        job = Job.from_body(job.body())
        if job.pending:
            assert worker(acme).run_pending(job, "job") is not None
        else:
            worker(acme).step(job)
    return job


def there(live: LivePortal, entity: str) -> list[dict[str, Any]]:
    return [row for row in live.control.objects(entity) if not row["deleted"]]


def mirror_all(acme: Deployment, live: LivePortal) -> None:
    for entity in ("crm_deal", "crm_item"):
        for row in there(live, entity):
            changed = row["data"].get("DATE_MODIFY") or row["data"]["updatedTime"]
            moment = datetime.fromisoformat(changed)
            acme.runtime.mirror.write(PORTAL, [Reading(entity, row["id"], row["data"], 1, moment)])


def running(acme: Deployment) -> list[str]:
    """Return the objects of synthetic batches."""
    return sorted(str(key) for key in acme.synthetic.objects())


def test_an_empty_mirror_lacks_everything_and_a_full_one_nothing(acme: Deployment, live: LivePortal) -> None:
    count = sum(len(there(live, entity)) for entity in ("crm_deal", "crm_item"))
    looked = reconciled(acme, dry_run=True)
    assert (looked.compared, looked.missed) == (count, count)
    assert looked.not_comparable == {"crm_lead": NOT_MIRRORED, "crm_quote": NOT_LISTED}
    assert running(acme) == []
    reply = reconciled(acme)
    assert reply.missed == count
    assert len(running(acme)) == count
    acme.redis.flushall()
    mirror_all(acme, live)
    reply = reconciled(acme, deleted=True)
    assert (reply.compared, reply.missed, reply.gone) == (2 * count, 0, 0)
    assert reply.batches == 0


def test_one_that_was_injected_is_not_missed_again(acme: Deployment, live: LivePortal) -> None:
    first = reconciled(acme)
    again = reconciled(acme)
    assert (again.missed, again.in_work) == (0, first.missed)


def test_a_death_between_the_note_and_the_injection_loses_nothing(acme: Deployment, live: LivePortal) -> None:
    job = Job("by hand", 0)
    worker(acme).begin(job)
    worker(acme).step(job)
    noted = Job.from_body(job.body())
    assert len(noted.pending) == 50
    assert worker(acme).run_pending(job, "job") is not None
    assert worker(acme).run_pending(noted, "job") is None, "the one that died after injecting is not repeated"
    assert len(running(acme)) == 50
    assert noted.pending == []


def test_what_is_deleted_on_the_portal_is_gone_from_the_mirror(acme: Deployment, live: LivePortal) -> None:
    mirror_all(acme, live)
    deals = live.control.change("crm_deal", "delete", count=2)
    items = live.control.change("crm_item", "delete", count=1)
    expected = sorted([*(f"crm_deal {one}" for one in deals), *(f"crm_item {one}" for one in items)])
    reply = reconciled(acme, deleted=True)
    assert (reply.missed, reply.gone) == (0, 3)
    assert sorted(reply.found) == running(acme) == expected
    assert reconciled(acme, deleted=False).gone == 0


def test_what_waits_in_the_queue_is_left_to_it(
    acme: Deployment, live: LivePortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror_all(acme, live)
    monkeypatch.setattr(runtime, "GRACE_SECONDS", 0.001)
    bind_events(live.client, CONNECTOR, ["ONCRMDEALUPDATE", "ONCRMDEALDELETE"])
    live.control.change("crm_deal", "update", count=3)
    gone = live.control.change("crm_deal", "delete", count=2)
    reply = reconciled(acme, deleted=True)
    assert (reply.missed, reply.gone) == (0, 0)
    batch = reserve(acme.queue, 50)
    assert batch is not None
    assert len(batch.records) >= 3
    reply = reconciled(acme, deleted=True)
    assert (reply.missed, reply.gone, reply.in_work) == (0, 0, 5), f"deleted: {gone}"
    live.control.drop_records()


def test_an_entity_whose_list_is_refused_does_not_stop_the_others(acme: Deployment, live: LivePortal) -> None:
    live.control.fault("crm.deal.list", "error", status=403, code="insufficient_scope")
    reply = reconciled(acme)
    assert reply.not_comparable["crm_deal"] == "InsufficientScope of the list method"
    assert reply.missed == len(there(live, "crm_item"))
    live.control.fault("crm.type.list", "error", status=403, code="insufficient_scope")
    assert reconciled(acme).not_comparable["crm_item"] == "InsufficientScope of the list method"


def test_trouble_while_it_begins_leaves_no_entity_out(acme: Deployment, live: LivePortal) -> None:
    job = Job("by hand", 0)
    live.control.fault("crm.type.list", "error", status=503, code="QUERY_LIMIT_EXCEEDED")
    with pytest.raises(QueryLimitExceeded):
        worker(acme).begin(job)
    assert job.until_ms == 0, "a job that has begun does not begin again"
    acme.redis.flushall()  # the pace of before
    live.control.disarm()
    worker(acme).begin(job)
    assert {part[0] for part in job.todo} == {"crm_deal", "crm_item"}


def test_an_entity_whose_update_event_runs_no_pipeline_that_mirrors_it_is_not_compared(
    acme: Deployment,
) -> None:
    acme.routes.add(lambda event: event, ("ONCRMCONTACTADD",), "contacts", mirrors={"crm_contact"})
    acme.routes.add(lambda event: event, ("ONCRMCONTACTUPDATE",), "reply")
    acme.routes.add(lambda event: event, ("ONCRMCOMPANYADD",), "companies", mirrors={"crm_company"})
    looked = reconciled(acme, dry_run=True)
    assert looked.not_comparable["crm_contact"] == looked.not_comparable["crm_company"] == NO_UPDATE


def test_a_refusal_of_the_queue_or_of_the_application_is_none_of_a_list(acme: Deployment, live: LivePortal) -> None:
    job = Job("by hand", 0)
    worker(acme).begin(job)
    for method, code in (("event.offline.list", "ACCESS_DENIED"), ("crm.deal.list", "user_access_error")):
        live.control.fault(method, "error", status=403, code=code)
        with pytest.raises(NotAdministrator):
            worker(acme).step(job)
        live.control.disarm()
    assert (job.todo[0], job.after) == (["crm_deal", "", "changed"], "")
    assert "crm_deal" not in job.not_comparable


def test_how_the_last_one_ended_is_kept_until_the_next_ends(acme: Deployment, live: LivePortal) -> None:
    last = ended(Job("daily", 1000, until_ms=5000, missed=2, gone=1), None, 6000, 1000)
    save_reconciled(acme.redis, acme.ledger.stem, last)
    assert last_reconciled(acme.redis, acme.ledger.stem) == last
    assert (last.missed, last.gone) == (2, 1)
    clean = ended(Job("daily", 4000, until_ms=9000), last, 9500, 4000)
    assert (clean.missed, clean.gone, clean.covered_ms) == (0, 0, 9000)


def test_requests_wait_until_they_are_due_and_are_answered(acme: Deployment, live: LivePortal) -> None:
    box = JobQueue(acme.redis, acme.ledger)
    later = box.enqueue("run", {"entity": "crm_deal"}, wait_seconds=60)
    now = box.enqueue("run", {"entity": "crm_lead"})
    box.enqueue("reconcile", {})
    assert set(box.waiting("run")) == {later, now}
    assert list(box.due("run")) == [now]
    assert box.due_kinds() == {"run", "reconcile"}
    with box.lease("run", 60):
        assert not box.lease("run", 60).acquire()
    box.complete(now, {"state": "done"})
    assert box.answer(now) == {"state": "done"}
    assert box.answer(later) is None
    assert list(box.due("run")) == []
    assert box.due_kinds() == {"reconcile"}


def test_people_are_told_what_was_found() -> None:
    job = Job("by hand", 0, until_ms=86_400_000, compared=7, missed=2, gone=1, by_entity={"crm_deal": 3})
    job.not_comparable = {"crm_quote": NOT_LISTED}
    lines = sentences(job.body())
    assert lines[0] == "7 objects compared, changed from 1970-01-01 00:00:00 to 1970-01-02 00:00:00 UTC."
    assert lines[1].startswith("2 missed and 1 deleted objects are run")
    assert lines[-1] == f"Not comparable: crm_quote ({NOT_LISTED})."
    assert "Nothing compared" in sentences(Job("by hand", 5000, until_ms=4000).body())[0]


def test_one_that_the_mirror_calls_deleted_but_lives_is_missed(acme: Deployment, live: LivePortal) -> None:
    mirror_all(acme, live)
    alive = there(live, "crm_deal")[0]["id"]
    acme.runtime.mirror.write(PORTAL, [Reading("crm_deal", alive, None, 2)])
    reply = reconciled(acme)
    assert reply.found == [f"crm_deal {alive}"]
