"""Rows 21 to 25: tokens, licences, rights and subscriptions go away under a deployment that works."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from b24offline.config import Config
from b24offline.runtime import Runtime
from tests.faults.row import Plan, fault
from tests.faults.stage import PORTAL, Stage, wait_until

PORTALS = tuple(f"p{number:02d}" for number in range(19))


@fault(21, "tokens expire on 20 portals", plan=Plan(portals=PORTALS, objects=30, workers=1), drain_seconds=240)
def many_portals(stage: Stage) -> None:
    controls = {PORTAL: stage.control, **{name: stage.connect(name) for name in PORTALS}}
    wait_until(lambda: all(one.state()["bindings"] for one in controls.values()), "all portals are bound", 120)
    for one in controls.values():
        one.change("crm_deal", "update", count=5)
    wait_until(lambda: all(one.state()["records"] == 0 for one in controls.values()), "all is settled once", 120)
    before = {name: one.state()["token_refreshes"] for name, one in controls.items()}
    for one in controls.values():
        one.expire_tokens()
    for one in controls.values():
        one.change("crm_deal", "update", count=5)
        one.change("task", "update", count=5)
    stage.noted("access tokens of 20 portals expire")
    wait_until(lambda: all(one.state()["records"] == 0 for one in controls.values()), "all is settled again", 180)
    refreshes = {name: one.state()["token_refreshes"] - before[name] for name, one in controls.items()}
    stage.expect(set(refreshes.values()) == {1}, f"one refresh each, but {refreshes}")
    failed = sum(stage.runtime.services(name).ledger.counters().get("runs_failed", 0) for name in controls)
    stage.expect(failed == 0, f"{failed} runs failed")


@fault(22, "killed before the new pair is durable")
def killed_before_durable(stage: Stage) -> None:
    """The old refresh token is used up and the new one died with the process: only a person can help, and is called."""
    stage.settle_some()
    fault_id = stage.control.fault("oauth.token", "hold", stage="after", times=1, seconds=30)
    stage.control.expire_tokens()
    stage.change(10)
    wait_until(lambda: stage.control.held(fault_id), "a refresh is under way")
    stage.kill()
    stage.noted("SIGKILL between the answer of the authorization server and its durable write")
    stage.control.disarm(fault_id)
    stage.restart()
    wait_until(lambda: stage.runtime.store.portals.get(PORTAL).state == "auth_lost", "auth lost, with an alarm", 90)
    tried = stage.control.state()["requests"].get("oauth.token", 0)
    time.sleep(5)
    stage.expect(stage.control.state()["requests"].get("oauth.token", 0) <= tried + 2, "no loop of refreshes")
    _authorize_again(stage)


@fault(22, "killed after the new pair is durable")
def killed_after_durable(stage: Stage) -> None:
    stage.settle_some()
    stage.arm("tokens.saved")
    stage.control.expire_tokens()
    stage.change(10)
    stage.await_crash("tokens.saved")


def _authorize_again(stage: Stage) -> None:
    """An administrator installs the application again; the operator configures the new refresh token."""
    token = stage.control.issue_token()["refresh_token"]
    stage.variables["B24_REFRESH_TOKEN"] = token
    for worker in stage.workers:
        worker.kill()
    stage.environ["B24_REFRESH_TOKEN"] = token
    stage.workers = [stage.new_worker(f"w{n}-again").start() for n in range(len(stage.workers))]
    stage.runtime = Runtime(Config.load(stage.variables))
    stage.runtime.ensure_configured_portal()  # brings the token into the store


def _authorization_fails(stage: Stage, what: str, **plan: Any) -> None:
    stage.settle_some()
    fault_id = stage.control.fault("oauth.token", **plan)
    stage.control.expire_tokens()
    before = len(stage.history("cleared"))
    stage.change(10)
    wait_until(lambda: stage.control.fired(fault_id), "the authorization server fails")
    stage.noted(what)
    time.sleep(4)
    stage.expect(len(stage.history("cleared")) == before, "nothing was acknowledged meanwhile")
    stage.control.disarm(fault_id)


PLANS: dict[str, dict[str, Any]] = {
    "500": {"kind": "error"},
    "HTML": {"kind": "html"},
    "PAYMENT_REQUIRED": {"kind": "error", "status": 400, "body": {"error": "PAYMENT_REQUIRED"}},
}
for name, one in PLANS.items():
    fault(23, f"authorization server: {name}")(partial(_authorization_fails, what=name, **one))


@fault(23, "authorization server: invalid_grant")
def authorization_lost(stage: Stage) -> None:
    body = {"error": "invalid_grant", "error_description": "Invalid grant"}
    _authorization_fails(stage, "invalid_grant", kind="error", status=400, body=body)
    wait_until(lambda: stage.runtime.store.portals.get(PORTAL).state == "auth_lost", "auth lost, with an alarm")
    _authorize_again(stage)


def _in_the_middle(stage: Stage) -> None:
    """Half of a batch has run."""
    stage.settle_some()
    stage.journal.tell("slow", 0.3)
    stage.begin(15, 3)


@fault(24, "licence off mid-batch")
def licence_off(stage: Stage) -> None:
    _in_the_middle(stage)
    stage.control.licence(rest_offline_extended=False)
    stage.noted("licence without rest_offline_extended")
    wait_until(lambda: stage.runtime.store.portals.get(PORTAL).state == "plan_too_small", "the state says it")
    stage.change(5, "crm_contact")
    stage.expect(not [one for one in stage.history("cleared") if one.get("by") == "get"], "nothing read with deletion")
    stage.journal.tell_nothing()
    stage.control.licence(rest_offline_extended=True)


@fault(24, "user loses administrator rights mid-batch")
def rights_off(stage: Stage) -> None:
    _in_the_middle(stage)
    stage.control.user(admin=False)
    stage.noted("user without administrator rights")
    wait_until(lambda: stage.runtime.store.portals.get(PORTAL).state == "not_admin", "the state says it")
    stage.journal.tell_nothing()
    stage.change(5, "crm_contact")
    stage.control.user(admin=True)


@fault(24, "application removed and installed again", invisible=True, repeats=None)
def application_removed(stage: Stage) -> None:
    _in_the_middle(stage)
    stage.control.app(removed=True)
    stage.noted("application removed")
    stage.journal.tell_nothing()
    wait_until(lambda: stage.runtime.store.portals.get(PORTAL).state == "auth_lost", "the state says it", 90)
    stage.control.app(removed=False)
    _authorize_again(stage)
    wait_until(lambda: stage.control.state()["bindings"], "events are bound again", 120)
    stage.change(10)


@fault(25, "subscription removed silently", invisible=True)
def unsubscribed(stage: Stage) -> None:
    stage.settle_some()
    stage.control.drop_subscriptions()
    stage.redis.delete(f"{stage.services.ledger.stem}:bound:fresh")
    stage.noted("all subscriptions removed, and a day passes")
    wait_until(lambda: stage.control.state()["bindings"], "found and bound again", 90)
    wait_until(lambda: "had vanished" in stage.workers[0].log_tail(60000), "an alarm", 10)
    stage.change(10)
