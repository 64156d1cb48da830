"""The application on the portal: its bindings, its user, its plan, and the choices where the vendor is silent."""

from __future__ import annotations

import pytest

from tests.unit.emulator.emulator_bench import PortalBench


def test_bindings_are_listed_and_removed_as_they_were_made():
    bench = PortalBench.new()
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
    bench = PortalBench.new("ONTASKADD")
    again = {"event": "ONTASKADD", "event_type": "offline", "auth_connector": "crm"}
    assert bench.refused("event.bind", **again)[0] == 400
    bench.portal.quirks = bench.portal.quirks.changed({"rebind_is_error": False})
    bench.ok("event.bind", **again)
    assert len(bench.ok("event.get")) == 1
    bench.portal.add("task")
    assert len(bench.rows()) == 1


@pytest.mark.parametrize("event", ["", "ONNOTHING", "ONCRMDYNAMICITEMADD_7"])
def test_unknown_events_cannot_be_bound(bench, event):
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


def test_users_and_application_are_described(bench):
    assert bench.ok("user.get", ID=15)[0]["NAME"] == "Jonas"
    assert bench.ok("user.get", FILTER={"ID": "99"}) == []
    assert bench.ok("user.current")["ACTIVE"] is True
    assert bench.ok("app.info")["INSTALLED"] is True
    assert bench.ok("profile")["ADMIN"] is True
    assert bench.ok("server.time").startswith("2027-01-15T")
    assert bench.ok("method.get", name="crm.deal.get") == {"isExisting": True, "isAvailable": True}
    assert bench.refused("feature.get") == (400, "CODE_EMPTY")
    assert bench.refused("crm.unknown") == (404, "ERROR_METHOD_NOT_FOUND")
    bench.portal.account.admin = False
    assert bench.ok("user.admin") is False


def test_a_plan_without_rest_refuses_every_method(bench):
    bench.portal.licence.commercial = False
    assert bench.refused("user.admin") == (403, "ACCESS_DENIED")


def test_events_flow_only_after_installation(bench):
    bench.portal.account.installed = False
    before = bench.rows()
    bench.wait(10)
    bench.touch("1")
    assert bench.rows() == before
    bench.portal.account.installed = True
    bench.touch("1")
    assert bench.rows() != before
