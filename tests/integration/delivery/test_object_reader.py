"""Objects read in bulk and one by one, from an emulated portal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from b24offline import keys
from b24offline.delivery import NotReadable
from b24offline.delivery.object_reader import ForeignAnswer
from b24offline.errors import AccessDenied, AnswerTooLarge, ServerError
from b24offline.events import ObjectKey
from b24offline.rest.list_reading import SELECTED
from tests.support.core_events import PORTAL
from tests.support.deployment import Deployment
from tests.support.live_portal import LivePortal, emulator, live
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from redis import Redis

    from b24offline.rest import BatchAnswer, Command, PortalClient

__all__ = ["emulator", "live"]


SELECTED_GET = {
    "crm_lead": "crm.lead.get",
    "crm_deal": "crm.deal.get",
    "crm_contact": "crm.contact.get",
    "crm_company": "crm.company.get",
    "crm_item": "crm.item.get",
}


class TooMuch:
    """A client for which the answer to any list is too large."""

    def __init__(self, client: PortalClient) -> None:
        self._client = client

    def batch(self, commands: Mapping[str, Command], **options: Any) -> BatchAnswer:
        if any(command.method.endswith(".list") for command in commands.values()):
            raise AnswerTooLarge(PORTAL, "batch", None, "", "too large")
        return self._client.batch(commands, **options)


@pytest.fixture
def acme(redis: Redis, tmp_path: Path, live: LivePortal) -> Deployment:
    return Deployment(redis, tmp_path, client=live.client)


def changed(live: LivePortal, entity: str, count: int) -> list[ObjectKey]:
    """Return objects that were changed just now; the calls so far are forgotten."""
    ids = live.control.change(entity, "update", count=count)
    live.begin()
    return [ObjectKey(PORTAL, entity, object_id) for object_id in ids]


def commands(live: LivePortal) -> list[str]:
    """Return the methods inside the batches that were sent since `begin`."""
    return [name for entry in live.control.requests(live.since) for name in entry["params"].get("cmd", ())]


def test_many_objects_are_one_request(acme: Deployment, live: LivePortal) -> None:
    wanted = [*changed(live, "crm_deal", 20), *changed(live, "crm_lead", 20), *changed(live, "task", 12)]
    before = acme.ledger.now_ms()
    assert acme.services.reader.prefetch(wanted) == 52
    assert live.calls() == ["batch"]
    for key in wanted:
        found = acme.services.reader.read(key, before)
        assert isinstance(found.data, dict)
        assert str(found.data.get("ID") or found.data.get("id")) == key.object_id
    assert live.calls() == ["batch"]
    assert commands(live) == ["crm.deal.list", "crm.lead.list", *["tasks.task.get"] * 12]


@pytest.mark.parametrize("entity", SELECTED)
def test_a_list_answers_what_get_answers_field_by_field(
    redis: Redis, tmp_path: Path, live: LivePortal, entity: str
) -> None:
    wanted = changed(live, entity, 8)
    listing = Deployment(redis, tmp_path, client=live.client).services.reader
    getting = Deployment(redis, tmp_path, client=live.client, B24_READ_BY_GET=entity).services.reader
    listed, refused = listing.read_all(dict.fromkeys(wanted, 1 << 60))
    assert not refused
    assert len([name for name in commands(live) if name.endswith(".list")]) <= 2, "one for each type of items"
    live.begin()
    got, _ = getting.read_all(dict.fromkeys(wanted, 1 << 60))
    assert commands(live) == [SELECTED_GET[entity]] * 8
    assert {key: found.data for key, found in listed.items()} == {key: found.data for key, found in got.items()}


def test_what_a_list_leaves_out_is_told_by_get(acme: Deployment, live: LivePortal) -> None:
    gone, hidden, *there = changed(live, "crm_deal", 5)
    live.control.change("crm_deal", "delete", ids=[gone.object_id, hidden.object_id])
    live.control.fault("batch/crm.deal.get", "error", status=403, code="ACCESS_DENIED", where={"id": hidden.object_id})
    live.begin()
    snapshots, refused = acme.services.reader.read_all(dict.fromkeys([gone, hidden, *there], 0))
    assert commands(live) == ["crm.deal.list", "crm.deal.get", "crm.deal.get"]
    assert snapshots[gone].data is None
    assert isinstance(refused[hidden], AccessDenied), "it may exist"
    assert snapshots.keys() == {gone, *there}


def test_an_answer_too_large_for_lists_is_asked_for_in_smaller_parts(
    redis: Redis, tmp_path: Path, live: LivePortal
) -> None:
    wanted = changed(live, "crm_deal", 20)
    acme = Deployment(redis, tmp_path, client=TooMuch(live.client))
    snapshots, refused = acme.services.reader.read_all(dict.fromkeys(wanted, 0))
    assert (snapshots.keys(), refused) == (set(wanted), {})


def test_an_object_that_was_not_prefetched_is_read_alone_and_kept(acme: Deployment, live: LivePortal) -> None:
    (key,) = changed(live, "crm_deal", 1)
    now = acme.ledger.now_ms()
    found = acme.services.reader.read(key, now)
    assert found.read_ms >= now
    assert acme.services.reader.read(key, now) == found
    assert live.calls() == ["crm.deal.get"]


def test_an_older_snapshot_does_not_serve_a_newer_event(acme: Deployment, live: LivePortal) -> None:
    (key,) = changed(live, "crm_deal", 1)
    first = acme.services.reader.read(key, acme.ledger.now_ms())
    live.control.change("crm_deal", "update", ids=[key.object_id], fields={"TITLE": "changed"})
    again = acme.services.reader.read(key, first.read_ms + 1)
    assert isinstance(again.data, dict)
    assert again.data["TITLE"] == "changed"
    assert again.read_ms > first.read_ms


@pytest.mark.parametrize("entity", ["crm_deal", "task"])
def test_an_object_that_is_gone_is_a_snapshot_without_data(acme: Deployment, live: LivePortal, entity: str) -> None:
    gone, there = changed(live, entity, 2)
    live.control.change(entity, "delete", ids=[gone.object_id])
    assert acme.services.reader.prefetch([gone, there]) == 2
    assert acme.services.reader.read(gone, 0).data is None
    assert acme.services.reader.read(there, 0).data is not None
    assert acme.services.reader.read(gone, acme.ledger.now_ms() + 1_000).data is None


def test_what_fails_in_bulk_is_read_again_later(acme: Deployment, live: LivePortal) -> None:
    one, other = changed(live, "crm_deal", 2)
    live.control.fault("batch/crm.deal.list", "error", status=500)
    live.control.fault("batch/crm.deal.get", "error", status=500, where={"id": one.object_id})
    assert acme.services.reader.prefetch([one, other]) == 1
    live.control.disarm()
    assert acme.services.reader.read(one, 0).data is not None
    assert live.calls() == ["batch", "batch", "crm.deal.get"]


def test_trouble_of_the_portal_is_not_taken_for_a_missing_object(acme: Deployment, live: LivePortal) -> None:
    (key,) = changed(live, "crm_deal", 1)
    live.control.fault("crm.deal.get", "error", status=500)
    with pytest.raises(ServerError):
        acme.services.reader.read(key, 0)
    assert acme.services.object_cache.get(key, 0) is None


def test_an_old_answer_is_renewed_by_asking_for_its_object(acme: Deployment, live: LivePortal, redis: Redis) -> None:
    healthy, refused = changed(live, "crm_deal", 2)
    ago = acme.services.reader.answered_seconds_ago
    assert ago(ServerError(PORTAL, "", 500, "", ""), 0.0) == math.inf, "nobody knows"
    acme.services.reader.read(healthy, acme.ledger.now_ms())
    live.control.fault("crm.deal.get", "error", status=500, where={"id": refused.object_id})
    with pytest.raises(ServerError) as caught:
        acme.services.reader.read(refused, 0)
    assert ago(caught.value, 3_600) < 3_600, "recent enough"
    assert live.calls() == ["crm.deal.get"] * 2
    for answers in (True, False):
        noted = redis.get(keys.answered(acme.ledger.stem))
        wait_until(lambda: acme.ledger.now_ms() > int(noted.split()[0]) + 2, "the last answer is old")  # noqa: B023
        ago(caught.value, 0.001)
        assert (redis.get(keys.answered(acme.ledger.stem)) != noted) is answers
        live.control.fault("crm.deal.get", "error", status=500)
    assert live.calls() == ["crm.deal.get"] * 4, "asked again, and refused"


def test_what_no_method_reads_is_refused_and_left_out_of_the_bulk(acme: Deployment, live: LivePortal) -> None:
    live.begin()
    unknown = ObjectKey(PORTAL, "no_such_entity", "1")
    with pytest.raises(NotReadable, match="no method reads"):
        acme.services.reader.read(unknown, 0)
    assert acme.services.reader.prefetch([unknown]) == 0
    assert acme.services.reader.prefetch([]) == 0
    assert live.calls() == []


def test_an_answer_with_something_else_is_no_object_that_is_gone(acme: Deployment, live: LivePortal) -> None:
    (key,) = changed(live, "task", 1)
    live.control.fault("tasks.task.get", "status", status=200, body={"result": {"other": {"id": "1"}}})
    with pytest.raises(ForeignAnswer, match=r"tasks\.task\.get did not answer with task"):
        acme.services.reader.read(key, 0)
    assert acme.services.object_cache.get(key, 0) is None
