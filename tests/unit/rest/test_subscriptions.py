"""Bindings and the plan, on an emulated portal."""

from __future__ import annotations

import pytest

from b24offline.errors import AccessDenied, PlanTooSmall, PortalError
from b24offline.rest import SyncResult, bind_events, check_plan, fingerprint
from tests.support.live_portal import LivePortal, emulator, live
from tests.support.portal_desk import CONNECTOR

__all__ = ["emulator", "live"]

EVENTS = ("ONCRMDEALADD", "ONCRMDEALUPDATE", "onCrmDealDelete")


def bindings(live: LivePortal) -> list[tuple[str, str]]:
    return sorted((binding["event"], binding["connector"]) for binding in live.control.state()["bindings"])


def test_missing_events_are_bound_with_the_connector(live: LivePortal) -> None:
    start = live.seq()
    reply = bind_events(live.client, CONNECTOR, EVENTS)
    assert reply == SyncResult(0, ("ONCRMDEALADD", "ONCRMDEALDELETE", "ONCRMDEALUPDATE"), {})
    assert bindings(live) == [(name.upper(), CONNECTOR) for name in sorted(name.upper() for name in EVENTS)]
    assert live.calls_since(start) == ["event.get", "batch"]


def test_binding_again_changes_nothing(live: LivePortal) -> None:
    bind_events(live.client, CONNECTOR, EVENTS)
    before = bindings(live)
    assert bind_events(live.client, CONNECTOR, EVENTS).refused == {}
    assert bindings(live) == before


def test_a_binding_of_another_connector_does_not_count_as_ours(live: LivePortal) -> None:
    bind_events(live.client, "somebody", EVENTS[:1])
    assert bind_events(live.client, CONNECTOR, EVENTS[:1]).added == ("ONCRMDEALADD",)
    assert ("ONCRMDEALADD", CONNECTOR) in bindings(live)


def test_a_binding_that_vanished_is_made_again(live: LivePortal) -> None:
    bind_events(live.client, CONNECTOR, EVENTS)
    live.control.drop_subscriptions("ONCRMDEALADD")
    bind_events(live.client, CONNECTOR, EVENTS)
    assert len(bindings(live)) == len(EVENTS)
    live.control.change("crm_deal", "add")
    assert any(row["EVENT_NAME"] == "ONCRMDEALADD" for row in queued(live))


def queued(live: LivePortal) -> list[dict[str, object]]:
    rows = live.client.call("event.offline.list", {"auth_connector": CONNECTOR})
    assert isinstance(rows, list)
    return [row for row in rows if isinstance(row, dict)]


def test_an_unknown_event_is_refused_and_the_others_are_bound(live: LivePortal) -> None:
    reply = bind_events(live.client, CONNECTOR, (*EVENTS, "ONNOBODYKNOWS"))
    assert set(reply.refused) == {"ONNOBODYKNOWS"}
    assert "ERROR_EVENT_NOT_FOUND" in reply.refused["ONNOBODYKNOWS"]
    assert len(bindings(live)) == len(EVENTS)


def test_nothing_wanted_binds_nothing(live: LivePortal) -> None:
    assert bind_events(live.client, CONNECTOR, ()) == SyncResult(0, (), {})


def test_more_events_than_fit_into_one_request(live: LivePortal) -> None:
    start = live.seq()
    bind_events(live.client, CONNECTOR, [f"ONCRMDYNAMICITEMADD_{number}" for number in range(128, 190)])
    assert live.calls_since(start).count("batch") == 2


def test_the_plan_is_looked_at_in_one_request(live: LivePortal) -> None:
    start = live.seq()
    check_plan(live.client, "acme")
    assert live.calls_since(start) == ["batch"]


@pytest.mark.parametrize("feature", ["rest_offline_extended", "rest_auth_connector"])
def test_a_plan_without_a_feature_is_refused_by_name(live: LivePortal, feature: str) -> None:
    live.control.licence(**{feature: False})
    with pytest.raises(PlanTooSmall, match=feature):
        check_plan(live.client, "acme")


def test_a_failed_look_at_the_plan_is_not_a_small_plan(live: LivePortal) -> None:
    live.control.fault("batch/feature.get", "error", status=500)
    with pytest.raises(PortalError) as caught:
        check_plan(live.client, "acme")
    assert not isinstance(caught.value, PlanTooSmall)


def test_without_administrator_rights_nothing_is_bound(live: LivePortal) -> None:
    live.control.user(admin=False)
    try:
        reply = bind_events(live.client, CONNECTOR, EVENTS)
    except AccessDenied:
        reply = SyncResult(0, (), dict.fromkeys(EVENTS, ""))
    assert reply.added == ()
    assert len(reply.refused) == len(EVENTS)
    assert bindings(live) == []


def test_the_fingerprint_changes_with_what_must_be_bound_only() -> None:
    assert fingerprint("c", ["A", "B"]) == fingerprint("c", ["B", "A"])
    different = {fingerprint(connector, events) for connector in "cd" for events in (["A"], ["B"], ["A", "B"], [])}
    assert len(different) == 8
