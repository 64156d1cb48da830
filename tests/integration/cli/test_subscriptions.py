"""`events`, `bind` and `unbind`: what a portal queues for us against what the pipelines want."""

from __future__ import annotations

import json

from b24offline.emulator import EmulatorProcess
from tests.support.newcomer import PIPELINES, Patient, emulator, patient, served

__all__ = ["emulator", "patient", "served"]

MIRRORED = PIPELINES.replace('"ONCRMDEALUPDATE")', '"ONCRMDEALUPDATE", "ONCRMLEADADD", mirrors="crm_deal")')


def run(patient: Patient, *words: str, code: int = 0) -> str:
    done = patient.run(*words)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def bound(emulator: EmulatorProcess) -> list[str]:
    return sorted(binding["event"] for binding in emulator.control().state()["bindings"])


def test_events_are_listed_with_pipelines_and_since_when(served: Patient) -> None:
    (update,) = json.loads(run(served, "events", "--entity", "deal", "--routed", "--json"))
    assert (update["event"], update["pipelines"]) == ("ONCRMDEALUPDATE", ["deal_changed"])
    assert list(update["subscribed since"]) == ["acme"]
    crm = run(served, "events", "--scope", "crm").splitlines()
    assert crm[0].split()[:3] == ["event", "scope", "entity"]
    assert len(crm) > 60
    assert {line.split()[1] for line in crm[1:]} == {"crm"}


def test_events_need_no_ledger(patient: Patient) -> None:
    assert "deal_changed  -\n" in run(patient, "events", "--entity", "crm_deal")


def test_a_new_route_is_shown_then_subscribed(served: Patient, emulator: EmulatorProcess) -> None:
    served.modules(chains=MIRRORED)
    said = run(served, "bind", "--dry-run")
    lines = "acme: + ONCRMLEADADD  deal_changed\nacme: 1 to subscribe, 1 already subscribed. Nothing was changed.\n"
    assert lines in said
    assert bound(emulator) == ["ONCRMDEALUPDATE"]
    assert "acme: 1 subscribed now, 1 already subscribed." in run(served, "bind")
    assert bound(emulator) == ["ONCRMDEALUPDATE", "ONCRMLEADADD"]
    assert "these events have no route: ONCRMDEALDELETE" in run(served, "events", "--routed")


def test_what_lost_its_route_is_named_and_ended_on_demand(served: Patient, emulator: EmulatorProcess) -> None:
    served.modules(chains=MIRRORED)
    run(served, "bind")
    served.modules(chains=PIPELINES)
    for _ in range(2):  # a look in between must not forget whose it is
        assert "acme: ? ONCRMLEADADD  has no route: b24offline unbind ONCRMLEADADD" in run(served, "bind")
    refused = run(served, "unbind", "oncrmdealupdate", code=2)
    assert "ONCRMDEALUPDATE has a route, so workers would subscribe it again" in refused
    assert "acme: would end ONCRMLEADADD." in run(served, "unbind", "--unrouted", "--dry-run")
    assert len(bound(emulator)) == 2
    assert "acme: 1 subscriptions were ended." in run(served, "unbind", "--unrouted")
    assert bound(emulator) == ["ONCRMDEALUPDATE"]
    assert "Name events, or use --unrouted" in run(served, "unbind", code=2)


def test_a_portal_that_was_never_polled_is_left_alone(served: Patient, emulator: EmulatorProcess) -> None:
    runtime = served.runtime()
    runtime.store.portals.set_epoch("acme", None)
    assert "Portal acme awaits its first poll" in run(served, "bind", "--portal", "acme", code=2)
    assert "acme: awaits its first poll" in run(served, "bind")
    assert bound(emulator) == ["ONCRMDEALUPDATE"]


def test_the_address_for_signals_is_bound_shown_and_ended(served: Patient, emulator: EmulatorProcess) -> None:
    served.variables["B24_PUSH_URL"] = "https://push.example.com/b24"
    assert "Not bound to https://push.example.com/b24: ONAPPUNINSTALL" in served.checks()[1]["signals"]
    run(served, "bind")
    assert "none has arrived yet" in served.checks()[1]["signals"]
    assert bound(emulator) == ["ONAPPUNINSTALL", "ONAPPUPDATE", "ONCRMDEALUPDATE", "ONOFFLINEEVENT"]
    assert "Unset B24_PUSH_URL first" in run(served, "unbind", "--push", code=2)
    del served.variables["B24_PUSH_URL"]
    assert "acme: would end https://push.example.com/b24." in run(served, "unbind", "--push", "--dry-run")
    assert "acme: 3 subscriptions to signals were ended." in run(served, "unbind", "--push")
    assert bound(emulator) == ["ONCRMDEALUPDATE"]
