"""Who must act, told from the store and the ledger alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from celery_bench import broker, deployed
from cryptography.fernet import Fernet

from b24offline.command_line import show_table
from b24offline.errors import WrongKey
from b24offline.overview import LedgerView, needs, overview, overviews
from b24offline.portal import Portal, PortalState, Wish
from b24offline.reconciled import Reconciled
from b24offline.status_command import row
from b24offline.store import Cipher, Store

__all__ = ["broker", "deployed"]

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=2)
PORTAL = Portal(
    name="acme",
    client_endpoint="https://acme.example/rest/",
    auth_url="https://auth.example/oauth/token/",
    client_id="app.1",
    client_secret="canary",
    connector="b24offline",
    member_id=None,
    state=PortalState.ACTIVE,
    state_reason="",
    state_since=LONG_AGO,
    state_actor="",
    wish=Wish.RUN,
    wish_since=LONG_AGO,
    authorized_at=LONG_AGO,
    token_version=1,
    ledger_generation=1,
    created_at=LONG_AGO,
)
LEDGER = LedgerView(open_batches={}, overdue_runs=0, next_poll_seconds=3.0, counters={})
BUSY = replace(LEDGER, open_batches={"p": 5.0})


def actors(portal=PORTAL, ledger=LEDGER, dead=0):
    return [need.actor for need in needs(portal, ledger, dead, NOW)]


def test_a_portal_that_is_served_needs_nobody():
    assert actors() == actors(ledger=BUSY) == []


@pytest.mark.parametrize(
    ("state", "actor"),
    [
        (PortalState.AUTH_LOST, "portal administrator"),
        (PortalState.NOT_ADMIN, "portal administrator"),
        (PortalState.PLAN_TOO_SMALL, "portal administrator"),
        (PortalState.BLOCKED, "operator"),
        (PortalState.REMOVED, "operator"),
    ],
)
def test_states_that_do_not_pass_name_who_ends_them(state, actor):
    assert actors(replace(PORTAL, state=state)) == [actor]
    assert actors(replace(PORTAL, state=state, state_actor="developer")) == ["developer"]
    assert actors(replace(PORTAL, state=state, wish=Wish.PAUSED)) == []
    assert actors(replace(PORTAL, state=state, wish=Wish.PAUSED), BUSY) == [actor]
    assert actors(replace(PORTAL, state=state, wish=Wish.REMOVED), BUSY, 3) == []


def test_what_passes_by_itself_becomes_somebodys_after_an_hour():
    young = replace(PORTAL, state=PortalState.PAUSED, state_since=NOW - timedelta(minutes=5))
    assert actors(young) == []
    assert actors(replace(young, state_actor="operator")) == ["operator"]
    assert actors(replace(young, state_since=LONG_AGO)) == ["operator"]


def test_nobody_polling_is_noticed():
    assert actors(ledger=replace(LEDGER, next_poll_seconds=-59)) == []
    assert actors(ledger=replace(LEDGER, next_poll_seconds=-61)) == ["operator"]
    assert actors(ledger=replace(LEDGER, next_poll_seconds=None)) == ["operator"]
    assert actors(replace(PORTAL, wish_since=NOW), replace(LEDGER, next_poll_seconds=None)) == []
    assert actors(replace(PORTAL, wish=Wish.PAUSED), replace(LEDGER, next_poll_seconds=None)) == []


def test_dead_letters_and_a_ledger_that_is_away_need_the_operator():
    assert actors(dead=1) == ["operator"]
    assert actors(ledger=None) == ["operator"]


def test_what_reconciliation_found_is_told_until_one_finds_nothing():
    found = Reconciled(0, "daily", 0, 0, 9, 2, 1)
    (need,) = needs(PORTAL, replace(LEDGER, reconciled=found), 0, NOW)
    assert need.what.startswith("reconciliation (daily) found 3 changes whose events never came")
    assert not needs(PORTAL, replace(LEDGER, reconciled=replace(found, missed=0, gone=0)), 0, NOW)


def test_a_reconciliation_that_does_not_end_is_noticed():
    assert not needs(PORTAL, replace(LEDGER, unreconciled_seconds=86_400.0), 0, NOW)
    (need,) = needs(PORTAL, replace(LEDGER, unreconciled_seconds=50 * 3600.0), 0, NOW)
    assert "asked for 50 h ago" in need.what


def test_the_look_at_one_portal_does_not_grow_with_the_number_of_portals(deployed, redis):
    here = deployed()
    portal = here.store.portal("acme")

    def answered():
        before = redis.info("stats")["total_net_output_bytes"]
        assert overview(here, portal).ledger.next_poll_seconds is not None
        return redis.info("stats")["total_net_output_bytes"] - before

    here.schedule.seed(["acme"])
    alone = answered()
    here.schedule.seed(["acme", *(f"portal{number}" for number in range(5000))])
    assert answered() < alone + 10_000, "a sweep that looks at ten thousand portals would not end"


def test_a_portal_whose_secret_cannot_be_opened_is_shown_with_the_others(deployed):
    here = deployed()
    foreign = Store(here.store.engine, Cipher([Fernet.generate_key().decode()]))
    zeta = {name: getattr(PORTAL, name) for name in ("client_endpoint", "auth_url", "client_id", "client_secret")}
    foreign.seed_portal("zeta", **zeta, connector="zeta")
    with pytest.raises(WrongKey):
        here.store.portals()
    acme, unopened = overviews(here)
    assert acme.ledger is not None
    assert (unopened.portal.name, unopened.portal.client_secret, unopened.ledger) == ("zeta", "", None)
    assert unopened.portal.state_reason.startswith("The secret key does not open the client secret of portal zeta.")
    (need,) = unopened.needs
    assert (need.actor, need.what.endswith("then portal authorize zeta.")) == ("operator", True)
    assert row(unopened)[0] == unopened.as_json()["name"] == "zeta"


def test_a_table_shows_a_portals_words_as_they_are(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    show_table(("portal", "why"), [("acme", "[b]refused[/b] see [/URL]")])
    assert "[b]refused[/b] see [/URL]" in capsys.readouterr().out
