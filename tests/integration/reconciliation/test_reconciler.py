"""Reconciliation: what counts as missed, how far it looks back, and a whole one against an emulated portal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b24offline.cli.reconcile import parsed_moment_ms, sentences
from b24offline.emulator import EmulatorProcess, matching
from b24offline.errors import NotAdministrator, QueryLimitExceeded
from b24offline.events import Routes, shipped_catalogue
from b24offline.ledger import JobQueue, Reconciled, last_reconciled, save_reconciled
from b24offline.reconciliation import Injector, Job, Reconciler, since_ms
from b24offline.reconciliation.history import covered_ms, ended, is_due
from b24offline.reconciliation.reconciler import NO_UPDATE, NOT_LISTED, NOT_MIRRORED, missed
from b24offline.rest import Listed, ObjectLister, OfflineQueue, bind_events
from b24offline.store import Mirror
from tests.support.core_events import PIPELINE, PORTAL, ledger_on, reserve
from tests.support.live_portal import LivePortal, live
from tests.support.portal_desk import CONNECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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


class Bench:
    """A portal, a mirror, and reconcilers made anew for each step, as other workers would."""

    def __init__(self, redis: Redis, live: LivePortal) -> None:
        self.redis, self.live = redis, live
        self.ledger = ledger_on(redis)
        self.mirror = Mirror(live.store.engine)
        self.mirror.create_schema()
        self.routes = Routes()
        self.routes.add(lambda event: event, ("ONCRMDEALUPDATE", "ONCRMDEALADD"), PIPELINE, mirrors={"crm_deal"})
        self.routes.add(lambda event: event, ("ONCRMDYNAMICITEMUPDATE",), "items", mirrors={"crm_item"})
        self.routes.add(lambda event: event, ("ONCRMLEADUPDATE",), "leads")
        self.routes.add(lambda event: event, ("ONCRMQUOTEUPDATE",), "quotes")
        self.injector = Injector(self.ledger, shipped_catalogue())
        self.queue = OfflineQueue(live.client, PORTAL, CONNECTOR)
        self.grace_ms = 0

    def worker(self) -> Reconciler:
        return Reconciler(
            portal=PORTAL,
            lister=ObjectLister(self.live.client, PORTAL),
            queue=self.queue,
            ledger=self.ledger,
            mirror=self.mirror,
            injector=self.injector,
            catalogue=shipped_catalogue(),
            routes=self.routes,
            grace_ms=self.grace_ms,
        )

    def reconciled(self, **about: Any) -> Job:
        """Return a whole reconciliation of deals and items, each step from what the one before wrote down."""
        job = Job("by hand", about.pop("since_ms", 0), **about)
        self.worker().begin(job)
        while not job.done:
            job = Job.from_body(job.body())
            if job.pending:
                assert self.worker().inject(job, "job") is not None
            else:
                self.worker().step(job)
        return job

    def there(self, entity: str) -> list[dict[str, Any]]:
        return [one for one in self.live.control.objects(entity) if not one["deleted"]]

    def mirror_all(self) -> None:
        for entity in ("crm_deal", "crm_item"):
            for one in self.there(entity):
                changed = one["data"].get("DATE_MODIFY") or one["data"]["updatedTime"]
                moment = datetime.fromisoformat(changed)
                self.mirror.upsert(PORTAL, entity, one["id"], one["data"], changed_at=moment, read_at=1)

    def injected(self) -> list[str]:
        return sorted(str(key) for key in self.injector.objects())


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorProcess]:
    with EmulatorProcess(objects=720) as process:
        yield process


@pytest.fixture
def bench(redis: Redis, live: LivePortal) -> Bench:
    return Bench(redis, live)


def test_an_empty_mirror_lacks_everything_and_a_full_one_nothing(bench: Bench) -> None:
    count = sum(len(bench.there(entity)) for entity in ("crm_deal", "crm_item"))
    looked = bench.reconciled(dry_run=True)
    assert (looked.compared, looked.missed) == (count, count)
    assert looked.not_comparable == {"crm_lead": NOT_MIRRORED, "crm_quote": NOT_LISTED}
    assert bench.injected() == []
    reply = bench.reconciled()
    assert reply.missed == count
    assert len(bench.injected()) == count
    bench.redis.flushall()
    bench.mirror_all()
    reply = bench.reconciled(deleted=True)
    assert (reply.compared, reply.missed, reply.gone) == (2 * count, 0, 0)
    assert reply.batches == 0


def test_one_that_was_injected_is_not_missed_again(bench: Bench) -> None:
    first = bench.reconciled()
    again = bench.reconciled()
    assert (again.missed, again.in_work) == (0, first.missed)


def test_a_death_between_the_note_and_the_injection_loses_nothing(bench: Bench) -> None:
    job = Job("by hand", 0)
    bench.worker().begin(job)
    bench.worker().step(job)
    noted = Job.from_body(job.body())
    assert len(noted.pending) == 50
    assert bench.worker().inject(job, "job") is not None
    assert bench.worker().inject(noted, "job") is None, "the one that died after injecting is not repeated"
    assert len(bench.injected()) == 50
    assert noted.pending == []


def test_what_is_deleted_on_the_portal_is_gone_from_the_mirror(bench: Bench) -> None:
    bench.mirror_all()
    deals = bench.live.control.change("crm_deal", "delete", count=2)
    items = bench.live.control.change("crm_item", "delete", count=1)
    expected = sorted([*(f"crm_deal {one}" for one in deals), *(f"crm_item {one}" for one in items)])
    reply = bench.reconciled(deleted=True)
    assert (reply.missed, reply.gone) == (0, 3)
    assert sorted(reply.found) == bench.injected() == expected
    assert bench.reconciled(deleted=False).gone == 0


def test_what_waits_in_the_queue_is_left_to_it(bench: Bench) -> None:
    bench.mirror_all()
    bench.grace_ms = 1
    bind_events(bench.live.client, CONNECTOR, ["ONCRMDEALUPDATE", "ONCRMDEALDELETE"])
    bench.live.control.change("crm_deal", "update", count=3)
    gone = bench.live.control.change("crm_deal", "delete", count=2)
    reply = bench.reconciled(deleted=True)
    assert (reply.missed, reply.gone) == (0, 0)
    batch = reserve(bench.queue, 50)
    assert batch is not None
    assert len(batch.records) >= 3
    reply = bench.reconciled(deleted=True)
    assert (reply.missed, reply.gone, reply.in_work) == (0, 0, 5), f"deleted: {gone}"
    bench.live.control.drop_records()


def test_an_entity_whose_list_is_refused_does_not_stop_the_others(bench: Bench) -> None:
    bench.live.control.fault("crm.deal.list", "error", status=403, code="insufficient_scope")
    reply = bench.reconciled()
    assert reply.not_comparable["crm_deal"] == "InsufficientScope of the list method"
    assert reply.missed == len(bench.there("crm_item"))
    bench.live.control.fault("crm.type.list", "error", status=403, code="insufficient_scope")
    assert bench.reconciled().not_comparable["crm_item"] == "InsufficientScope of the list method"


def test_trouble_while_it_begins_leaves_no_entity_out(bench: Bench) -> None:
    job = Job("by hand", 0)
    bench.live.control.fault("crm.type.list", "error", status=503, code="QUERY_LIMIT_EXCEEDED")
    with pytest.raises(QueryLimitExceeded):
        bench.worker().begin(job)
    assert job.until_ms == 0, "a job that has begun does not begin again"
    bench.redis.flushall()  # the pace of before
    bench.live.control.disarm()
    bench.worker().begin(job)
    assert {part[0] for part in job.todo} == {"crm_deal", "crm_item"}


def test_an_entity_whose_update_event_runs_no_pipeline_that_mirrors_it_is_not_compared(
    bench: Bench,
) -> None:
    bench.routes.add(lambda event: event, ("ONCRMCONTACTADD",), "contacts", mirrors={"crm_contact"})
    bench.routes.add(lambda event: event, ("ONCRMCONTACTUPDATE",), "reply")
    bench.routes.add(lambda event: event, ("ONCRMCOMPANYADD",), "companies", mirrors={"crm_company"})
    looked = bench.reconciled(dry_run=True)
    assert looked.not_comparable["crm_contact"] == looked.not_comparable["crm_company"] == NO_UPDATE


def test_a_refusal_of_the_queue_or_of_the_application_is_none_of_a_list(bench: Bench) -> None:
    job = Job("by hand", 0)
    bench.worker().begin(job)
    for method, code in (("event.offline.list", "ACCESS_DENIED"), ("crm.deal.list", "user_access_error")):
        bench.live.control.fault(method, "error", status=403, code=code)
        with pytest.raises(NotAdministrator):
            bench.worker().step(job)
        bench.live.control.disarm()
    assert (job.todo[0], job.after) == (["crm_deal", "", "changed"], "")
    assert "crm_deal" not in job.not_comparable


def test_how_the_last_one_ended_is_kept_until_the_next_ends(bench: Bench) -> None:
    last = ended(Job("daily", 1000, until_ms=5000, missed=2, gone=1), None, 6000, 1000)
    save_reconciled(bench.redis, bench.ledger.stem, last)
    assert last_reconciled(bench.redis, bench.ledger.stem) == last
    assert (last.missed, last.gone) == (2, 1)
    clean = ended(Job("daily", 4000, until_ms=9000), last, 9500, 4000)
    assert (clean.missed, clean.gone, clean.covered_ms) == (0, 0, 9000)


def test_requests_wait_until_they_are_due_and_are_answered(bench: Bench) -> None:
    box = JobQueue(bench.redis, bench.ledger)
    later = box.enqueue("run", {"entity": "crm_deal"}, wait_seconds=60)
    now = box.enqueue("run", {"entity": "crm_lead"})
    box.enqueue("reconcile", {})
    assert set(box.waiting("run")) == {later, now}
    assert 0 <= box.oldest_seconds("run") < 10
    assert box.oldest_seconds("other") == 0
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


def test_one_that_the_mirror_calls_deleted_but_lives_is_missed(bench: Bench) -> None:
    bench.mirror_all()
    alive = bench.there("crm_deal")[0]["id"]
    bench.mirror.mark_deleted(PORTAL, "crm_deal", alive, at=datetime.now(UTC), read_at=2)
    reply = bench.reconciled()
    assert reply.found == [f"crm_deal {alive}"]
