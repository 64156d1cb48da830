"""Which issues a portal has, found from the store and the ledger alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.fernet import Fernet

from b24offline.cli.output import show_table
from b24offline.cli.portal_view import columns
from b24offline.errors import WrongKey
from b24offline.events import DesiredState, ObservedState, Portal
from b24offline.ledger import LedgerSchemaMismatch, Reconciled
from b24offline.monitoring import HealthSample, IssueCode, portal_status, portal_statuses
from b24offline.monitoring.health import (
    DEAD_LETTER_SLACK_SECONDS,
    OLD_SECONDS,
    SILENT_SECONDS,
    UNADOPTED_SECONDS,
    UNLOOKED_SECONDS,
    find_issues,
)
from b24offline.store import Cipher, Store
from tests.support.celery_bench import broker, deployed

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
    state=ObservedState.ACTIVE,
    state_reason="",
    state_since=LONG_AGO,
    state_actor="",
    desired_state=DesiredState.RUN,
    desired_since=LONG_AGO,
    authorized_at=LONG_AGO,
    token_version=1,
    ledger_epoch=1,
    created_at=LONG_AGO,
)
SAMPLE = HealthSample(next_poll_seconds=3.0)
BUSY = replace(SAMPLE, open_batches={"p": 5.0})


DEAD_LETTER_SECONDS = 604_800.0


def issues(portal=PORTAL, sample=SAMPLE, dead=0, *, adopts=True):
    return find_issues(portal, sample, dead, NOW, dead_letter_seconds=DEAD_LETTER_SECONDS, adopts=adopts)


def actors(portal=PORTAL, sample=SAMPLE, dead=0):
    return [issue.actor for issue in issues(portal, sample, dead)]


def codes(portal=PORTAL, sample=SAMPLE, dead=0):
    return [issue.code for issue in issues(portal, sample, dead)]


def test_a_portal_that_is_served_needs_nobody():
    assert actors() == actors(sample=BUSY) == []


@pytest.mark.parametrize(
    ("state", "actor"),
    [
        (ObservedState.AUTH_LOST, "portal administrator"),
        (ObservedState.NOT_ADMIN, "portal administrator"),
        (ObservedState.PLAN_TOO_SMALL, "portal administrator"),
        (ObservedState.BLOCKED, "operator"),
        (ObservedState.REMOVED, "operator"),
    ],
)
def test_states_that_do_not_pass_name_who_ends_them(state, actor):
    assert actors(replace(PORTAL, state=state)) == [actor]
    assert actors(replace(PORTAL, state=state, state_actor="developer")) == ["developer"]
    assert actors(replace(PORTAL, state=state, desired_state=DesiredState.PAUSED)) == []
    assert actors(replace(PORTAL, state=state, desired_state=DesiredState.PAUSED), BUSY) == [actor]
    assert actors(replace(PORTAL, state=state, desired_state=DesiredState.REMOVED), BUSY, 3) == []


def test_what_passes_by_itself_becomes_somebodys_after_an_hour():
    young = replace(PORTAL, state=ObservedState.PAUSED, state_since=NOW - timedelta(minutes=5))
    assert actors(young) == []
    assert actors(replace(young, state_actor="operator")) == ["operator"]
    assert actors(replace(young, state_since=LONG_AGO)) == ["operator"]


def test_nobody_polling_is_noticed():
    assert actors(sample=replace(SAMPLE, next_poll_seconds=-59)) == []
    assert actors(sample=replace(SAMPLE, next_poll_seconds=-61)) == ["operator"]
    assert actors(sample=replace(SAMPLE, next_poll_seconds=None)) == ["operator"]
    assert actors(replace(PORTAL, desired_since=NOW), replace(SAMPLE, next_poll_seconds=None)) == []
    assert actors(replace(PORTAL, desired_state=DesiredState.PAUSED), replace(SAMPLE, next_poll_seconds=None)) == []


def test_dead_letters_and_a_ledger_that_is_away_need_the_operator():
    (dead_letters,) = issues(dead=2)
    assert (dead_letters.code, dead_letters.actor) == (IssueCode.DEAD_LETTERS, "operator")
    assert dead_letters.message.startswith("2 dead letters wait")
    assert codes(sample=None) == [IssueCode.LEDGER_UNREACHABLE]


def test_missed_changes_are_an_issue_until_none_are_found():
    found = Reconciled(0, "daily", 0, 0, 9, 2, 1)
    (issue,) = issues(sample=replace(SAMPLE, reconciled=found))
    assert issue.code == IssueCode.MISSED_CHANGES
    assert issue.message.startswith("Reconciliation (daily) found 3 changes whose events never came")
    assert not issues(sample=replace(SAMPLE, reconciled=replace(found, missed=0, gone=0)))


def test_a_reconciliation_that_does_not_end_is_noticed():
    assert not issues(sample=replace(SAMPLE, unreconciled_seconds=86_400.0))
    (issue,) = issues(sample=replace(SAMPLE, unreconciled_seconds=72 * 3600.0))
    assert issue.code == IssueCode.RECONCILIATION_STUCK
    assert "requested 3.0 days ago" in issue.message


@pytest.mark.parametrize(
    ("field", "bound", "code"),
    [
        ("oldest_seconds", OLD_SECONDS, IssueCode.OLD_BATCH),
        ("oldest_retrying_seconds", DEAD_LETTER_SECONDS + DEAD_LETTER_SLACK_SECONDS, IssueCode.RETRYING_TOO_LONG),
        ("oldest_orphan_seconds", UNADOPTED_SECONDS, IssueCode.ORPHANS),
        ("unlooked_seconds", UNLOOKED_SECONDS, IssueCode.ORPHANS),
        ("silent", SILENT_SECONDS, IssueCode.NOT_ANSWERING),
    ],
)
def test_what_is_older_than_its_bound_is_an_issue_and_nothing_else(field, bound, code):
    as_old, older = (
        replace(SAMPLE, **{field: {"others": age} if field == "silent" else age}) for age in (bound, bound + 1)
    )
    assert codes(sample=as_old) == []
    assert codes(sample=older) == [code]
    assert codes(replace(PORTAL, desired_state=DesiredState.REMOVED), older) == []


def test_orphans_are_no_issue_where_nobody_looks_for_them():
    old = replace(SAMPLE, orphans=1, oldest_orphan_seconds=UNADOPTED_SECONDS + 1)
    assert issues(sample=old, adopts=False) == ()
    assert codes(replace(PORTAL, desired_state=DesiredState.PAUSED), old) == []


def test_a_look_that_is_not_whole_is_no_issue_until_the_portal_was_served_for_long():
    old = replace(SAMPLE, unlooked_seconds=UNLOOKED_SECONDS + 1)
    assert codes(sample=old) == [IssueCode.ORPHANS]
    for since in ("state_since", "desired_since"):
        assert codes(replace(PORTAL, **{since: NOW - timedelta(seconds=UNLOOKED_SECONDS)}), old) == []
    assert IssueCode.ORPHANS not in codes(replace(PORTAL, state=ObservedState.PAUSED), old)


def test_each_refused_event_is_an_issue_of_its_own():
    refused = issues(sample=replace(SAMPLE, refused=("ONA", "ONB")))
    assert [issue.subject for issue in refused] == ["ONA", "ONB"]
    assert len({issue.key for issue in refused}) == 2


def test_an_issue_keeps_its_key_while_its_numbers_change():
    for before, after in (({"dead": 1}, {"dead": 2}), ({"sample": replace(SAMPLE, unreadable=1)},) * 2):
        assert [issue.key for issue in issues(**before)] == [issue.key for issue in issues(**after)]
    young, old = (replace(SAMPLE, oldest_seconds=OLD_SECONDS * hours) for hours in (2, 9))
    assert issues(sample=young)[0].key == issues(sample=old)[0].key
    lost, blocked = (
        issues(replace(PORTAL, state=state, state_actor="operator"))[0] for state in ("auth_lost", "blocked")
    )
    assert lost.key != blocked.key


def test_a_poll_is_not_late_while_the_broker_keeps_it_waiting():
    late = replace(SAMPLE, next_poll_seconds=-7200, broker_full="7 messages wait")
    assert [issue.code for issue in issues(sample=late)] == [IssueCode.BROKER_FULL]


def test_every_message_is_a_sentence_that_names_no_one_else():
    sample = replace(
        SAMPLE,
        next_poll_seconds=-7200,
        oldest_seconds=9e6,
        oldest_retrying_seconds=9e6,
        orphans=2,
        oldest_orphan_seconds=9e6,
        full_lanes={"default": 9e6},
        held_by={"default": ("crm_deal 7",)},
        silent={"others": 9e6},
        unreadable=3,
        oversized="100 rows",
        memory_share=0.9,
        refused_messages=4,
        refused=("ONA",),
        reconciled=Reconciled(0, "daily", 0, 0, 9, 2, 1),
        other_schema=str(LedgerSchemaMismatch("acme", "2", 1)),
        unreconciled_seconds=9e6,
    )
    gated = replace(SAMPLE, broker_full="7 messages wait", broker_unseen="OSError")
    blocked = replace(PORTAL, state=ObservedState.BLOCKED)
    unnamed = replace(SAMPLE, full_lanes={"default": 9e6})
    found = [*issues(blocked, sample, 1), *issues(sample=None), *issues(sample=gated), *issues(sample=unnamed)]
    assert {issue.code for issue in found} == set(IssueCode) - {IssueCode.WRONG_KEY}
    assert all(issue.message[0].isupper() or issue.message[0].isdigit() for issue in found)
    assert not any(" ." in issue.message for issue in found), "nothing is named where nothing is known"


def test_the_look_at_one_portal_does_not_grow_with_the_number_of_portals(deployed, redis):
    runtime = deployed()
    portal = runtime.store.portals.get("acme")

    def answered():
        before = redis.info("stats")["total_net_output_bytes"]
        assert portal_status(runtime.store, runtime.redis, runtime.config, portal).sample.next_poll_seconds is not None
        return redis.info("stats")["total_net_output_bytes"] - before

    runtime.schedule.seed(["acme"])
    alone = answered()
    runtime.schedule.seed(["acme", *(f"portal{number}" for number in range(5000))])
    assert answered() < alone + 10_000, "a sweep that looks at ten thousand portals would not end"


def test_a_portal_whose_secret_cannot_be_opened_is_shown_with_the_others(deployed):
    runtime = deployed()
    foreign = Store(runtime.store.engine, Cipher([Fernet.generate_key().decode()]))
    zeta = {name: getattr(PORTAL, name) for name in ("client_endpoint", "auth_url", "client_id", "client_secret")}
    foreign.portals.seed("zeta", **zeta, connector="zeta")
    with pytest.raises(WrongKey):
        runtime.store.portals.list()
    acme, unopened = portal_statuses(runtime.store, runtime.redis, runtime.config)
    assert acme.sample is not None
    assert (unopened.portal.name, unopened.portal.client_secret, unopened.sample) == ("zeta", "", None)
    assert unopened.portal.state_reason.startswith("The secret key does not open the client secret of portal zeta.")
    (issue,) = unopened.issues
    assert (issue.code, issue.actor) == (IssueCode.WRONG_KEY, "operator")
    assert issue.message.endswith("b24offline portal rotate-secret, then portal authorize zeta.")
    (line,) = columns([unopened])[1]
    assert line[0] == unopened.as_json()["name"] == "zeta"


def test_a_table_shows_a_portals_words_as_they_are(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    show_table(("portal", "why"), [("acme", "[b]refused[/b] see [/URL]")])
    assert "[b]refused[/b] see [/URL]" in capsys.readouterr().out
