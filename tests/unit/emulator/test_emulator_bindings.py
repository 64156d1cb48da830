"""Binding and unbinding events."""

from __future__ import annotations

import pytest
from emulator_bench import Bench


def test_bind_get_unbind():
    bench = Bench.new()
    assert bench.ok("event.bind", EVENT="onCrmDealAdd", event_type="offline", auth_connector="x") is True
    assert bench.ok("event.bind", event="ONCRMDEALADD", handler="http://127.0.0.1:1/h") is True
    assert bench.ok("event.get") == [
        {"event": "ONCRMDEALADD", "handler": "", "auth_type": "0", "offline": 1},
        {"event": "ONCRMDEALADD", "handler": "http://127.0.0.1:1/h", "auth_type": "0", "offline": 0},
    ]
    wrong = bench.ok("event.unbind", event="ONCRMDEALADD", event_type="offline", auth_connector="y")
    assert wrong == {"count": 0}
    right = bench.ok("event.unbind", event="ONCRMDEALADD", event_type="offline", auth_connector="x")
    assert right == {"count": 1}
    assert bench.ok("event.unbind") == {"count": 1}


def test_what_is_bound_twice_is_refused_or_ignored():
    bench = Bench.new("ONTASKADD")
    again = {"event": "ONTASKADD", "event_type": "offline", "auth_connector": "crm"}
    assert bench.refused("event.bind", **again)[0] == 400
    bench.portal.quirks = bench.portal.quirks.changed({"rebind_is_error": False})
    bench.ok("event.bind", **again)
    assert len(bench.ok("event.get")) == 1
    bench.portal.add("task")
    assert len(bench.rows()) == 1


@pytest.mark.parametrize("event", ["", "ONNOTHING", "ONCRMDYNAMICITEMADD_7"])
def test_unknown_events(bench, event):
    assert bench.refused("event.bind", event=event, event_type="offline") == (400, "ERROR_EVENT_NOT_FOUND")


@pytest.mark.parametrize("event", ["ONOFFLINEEVENT", "ONAPPUNINSTALL"])
def test_life_of_the_application_is_not_queued(bench, event):
    assert bench.refused("event.bind", event=event, event_type="offline") == (400, "ERROR_EVENT_NOT_FOUND")


def test_offline_bindings_need_an_administrator(bench):
    bench.portal.account.admin = False
    assert bench.refused("event.bind", event="ONTASKADD", event_type="offline") == (403, "ACCESS_DENIED")


def test_events_lists_names_and_variants(bench):
    names = bench.ok("events")
    assert {"ONCRMDEALADD", "ONTASKUPDATE", "ONCRMDYNAMICITEMADD_1046"} <= set(names)
    assert all(name.startswith("ONTASK") for name in bench.ok("events", SCOPE="task"))


def test_connector_of_a_binding_may_be_shown(bench):
    bench.portal.quirks = bench.portal.quirks.changed({"event_get_shows_connector": True})
    assert bench.ok("event.get")[0]["connector_id"] == "crm"


@pytest.mark.parametrize("values", [{"nothing": 1}, {"rebind_is_error": 1}])
def test_quirks_are_known_and_typed(bench, values):
    with pytest.raises((ValueError, TypeError)):
        bench.portal.quirks.changed(values)
