"""What ledger, broker and connectors say, and what the doctor makes of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from b24offline.delivery import subscription_plan
from b24offline.doctor.broker_checks import BrokerFacts, broker_checks
from b24offline.doctor.connector_checks import Look, connector_check
from b24offline.doctor.host_checks import link_check, sources
from b24offline.doctor.ledger_checks import LedgerFacts, ledger_checks
from b24offline.doctor.subscription_checks import subscription_check
from b24offline.events import DesiredState, ObservedState, Portal

NOW = datetime(2026, 4, 3, tzinfo=UTC)
GOOD = {"redis_version": "7.2.4", "redis_mode": "standalone", "role": "master", "aof_enabled": 1, "used_memory": 10**6}
GOOD |= {"maxmemory": 10**8, "maxmemory_policy": "noeviction"}


def portal(epoch: int | None = 1) -> Portal:
    state = (ObservedState.ACTIVE, "", NOW, "", DesiredState.RUN, NOW, NOW)
    return Portal("acme", "https://acme/rest/", "https://a/", "app", "", "crm", "m", *state, 1, epoch, NOW)


def ledger(changed: dict[str, Any], ahead: float = 0.0, strangers: tuple[str, ...] = ()) -> dict[str, tuple[str, str]]:
    facts = LedgerFacts({**GOOD, **changed}, ahead, strangers)
    return {check.name: (check.state, check.finding) for check in ledger_checks(facts, "redis://here", "b24offline")}


def test_a_good_ledger_passes_every_check() -> None:
    assert {state for state, _ in ledger({}).values()} == {"ok"}


@pytest.mark.parametrize(
    ("name", "changed", "state", "words"),
    [
        ("ledger", {"redis_version": "6.0.16"}, "failed", "Redis 6.0.16 at redis://here is too old"),
        ("ledger", {"redis_version": "7.2.4", "valkey_version": "8.1.0"}, "ok", "Valkey 8.1.0"),
        ("ledger role", {"redis_mode": "cluster"}, "failed", "Redis Cluster"),
        ("ledger role", {"role": "slave"}, "failed", "is a replica"),
        ("ledger eviction", {"maxmemory_policy": "allkeys-lru"}, "failed", "may delete our keys"),
        ("ledger eviction", {"maxmemory_policy": "volatile-ttl", "maxmemory": 0}, "warning", "With a maxmemory"),
        ("ledger eviction", {"evicted_keys": 3}, "failed", "has deleted 3 keys"),
        ("ledger memory", {"used_memory": 91 * 10**6}, "failed", "91 MB used of 100 MB"),
        ("ledger persistence", {"aof_enabled": 0}, "warning", "no append-only file"),
        ("ledger persistence", {"rdb_last_bgsave_status": "err"}, "failed", "cannot save to disk"),
    ],
)
def test_what_is_wrong_with_a_ledger_fails_its_check(name: str, changed: Any, state: str, words: str) -> None:
    found = ledger(changed)
    assert (found[name][0], words in found[name][1]) == (state, True), found[name]
    assert {other for check, (other, _) in found.items() if check != name} == {"ok"}


def test_clock_and_strangers_of_a_ledger_are_warnings() -> None:
    found = ledger({}, ahead=-9.0, strangers=("globex",))
    assert found["ledger clock"] == ("warning", "It differs from this machine's by -9.0 s.")
    assert (found["ledger prefix"][0], "globex" in found["ledger prefix"][1]) == ("warning", True)


@pytest.mark.parametrize(
    ("facts", "remote", "name", "state", "words"),
    [
        (BrokerFacts("OperationalError: refused"), True, "broker", "failed", "amqp://b does not answer: Oper"),
        (BrokerFacts(readers={"q": ("w@1", "w@2")}, waiting={"q": 1}), True, "queue q", "ok", "w@1, w@2; 1 message in"),
        (BrokerFacts(waiting={"q": 3}), True, "queue q", "failed", "No worker reads it; 3 messages"),
        (BrokerFacts(waiting={"q": 3}), False, "queue q", "skipped", "do not answer"),
        (BrokerFacts(readers={"q": ("w",)}, waiting={"q": 10_001}), True, "queue q", "warning", "10001 messages in it"),
        (BrokerFacts(readers={"q": ("w",)}), True, "external queue x", "warning", "No worker that reads it answered"),
        (BrokerFacts(readers={"x": ("theirs@1",)}), True, "external queue x", "ok", "theirs@1"),
    ],
)
def test_who_reads_a_queue_is_named(facts: BrokerFacts, remote: bool, name: str, state: str, words: str) -> None:
    found = {check.name: check for check in broker_checks(facts, "amqp://b", ["q"], ["x"], remote_control=remote)}
    assert (found[name].state, words in found[name].finding) == (state, True), found[name]


def look(reserved: str, unknown: str = "", *, unclear: bool = False) -> Look:
    return Look(frozenset(reserved), frozenset(unknown), unclear)


@pytest.mark.parametrize(
    ("looks", "epoch", "state", "words"),
    [
        ([look(""), look("a"), look("ab")], 1, "ok", "No other deployment"),
        ([look("a", "a"), look("a", "a"), look("a", "a")], 1, "warning", "Reserved batches (1) are unknown"),
        ([look("a", "a"), look("a"), look("a")], 1, "warning", "unknown to the ledger"),
        ([look("a", "a"), look("")], 1, "failed", "another deployment uses the connector crm"),
        ([look(""), look("a", "a")], 1, "failed", "another deployment uses"),
        ([look("a", "a"), look("a", "a")], None, "failed", "not by this deployment"),
        ([look("a", "a", unclear=True), look("")], 1, "ok", "No other deployment"),
        ([look("a", "a", unclear=True)], 1, "skipped", "polls too often"),
    ],
)
def test_reservations_that_the_ledger_does_not_know_are_told(looks, epoch, state, words) -> None:
    check = connector_check(looks, portal(epoch))
    assert (check.state, words in check.finding) == (state, True), check


@pytest.mark.parametrize(
    ("wanted", "listed", "ours", "epoch", "state", "words"),
    [
        ("AB", "ABC", "AB", 1, "ok", "All 2 events"),
        ("AB", "", "", None, "ok", "first poll subscribes 2"),
        ("AB", "A", "AB", 1, "failed", "1 of 2 events with a route are not subscribed: B."),
        ("A", "ABC", "AB", 1, "warning", "Subscribed without a route: B."),
    ],
)
def test_subscriptions_are_compared_with_routes(wanted, listed, ours, epoch, state, words) -> None:
    check = subscription_check(portal(epoch), subscription_plan(wanted, listed, ours))
    assert (check.state, words in check.finding) == (state, True), check


def test_links_to_other_machines_need_tls() -> None:
    good = {"a": "redis://127.0.0.1/0", "b": "rediss://far/0", "c": "sqlite:////x", "d": "unix:///s"}
    good |= {"e": "postgresql+psycopg://u@far/b", "f": "amqp://localhost//"}
    assert link_check(good).state == "ok"
    plain = link_check(
        {**good, "B24_REDIS_URL": "redis://far/0", "B24_DATABASE_URL": "postgresql://u:secret@far/b?sslmode=disable"}
    )
    assert (plain.state, "B24_REDIS_URL, B24_DATABASE_URL lead" in plain.finding) == ("warning", True)
    assert "secret" not in str(plain)


def test_sources_of_settings_are_told_without_their_values() -> None:
    environ = {"B24_REDIS_URL": "redis://:secret@h/0", "B24_CLIENT_SECRET_FILE": "/run/s", "B24_PORTAL_NAME": " "}
    assert sources(environ) == {"B24_REDIS_URL": "environment", "B24_CLIENT_SECRET": "file /run/s"}
