"""A first start beside records that somebody else has reserved: nothing is taken before a person has decided."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from b24offline.cli import main
from b24offline.delivery.portal_lifecycle import suspension_after
from b24offline.errors import ClaimNeeded
from b24offline.events import CLAIMED, ObservedState
from b24offline.monitoring import HealthSample
from b24offline.monitoring.health import find_issues
from b24offline.store import Cipher, Store, load_or_create_key
from tests.integration.delivery.test_poller import LANE, Bench
from tests.support.core_events import PORTAL, TIMERS, message_of, reserve
from tests.support.portal_desk import CONNECTOR

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

SEED = {
    "client_endpoint": "https://acme.example/rest/",
    "auth_url": "https://auth.example/",
    "client_id": "id",
    "client_secret": "secret",
}


@pytest.fixture
def bench(redis: Redis, tmp_path: Path) -> Bench:
    """A deployment that has not polled yet, at a portal where another one has reserved a record."""
    bench = Bench(redis, tmp_path)
    bench.changes("1")
    assert reserve(bench.queue, 1) is not None
    bench.changes("2")
    bench.desk.calls.clear()
    bench.store.portals.set_epoch(PORTAL, None)
    redis.flushall()
    return bench


def test_nothing_is_reserved_adopted_or_redriven(bench: Bench) -> None:
    bench.desk.change("3")
    for _ in range(3):
        with pytest.raises(ClaimNeeded, match=f"portal claim {PORTAL}"):
            bench.poller.poll(LANE)
        assert bench.poller.adopt() == ()
        assert bench.poller.redrive(bench.queue.reserved()) == ()
        bench.later(TIMERS.sighting_seconds + 1)
    assert set(bench.desk.methods()) == {"list"}
    assert bench.store.portals.get(PORTAL).ledger_epoch is None
    assert bench.ledger.open_batches() == {}


def test_once_seen_it_stays_asked_though_the_records_are_settled_by_whoever_lives(bench: Bench) -> None:
    with pytest.raises(ClaimNeeded) as reply:
        bench.poller.poll(LANE)
    bench.store.portals.set_state(PORTAL, ObservedState.UNDECIDED, str(reply.value))
    (record,) = [row for row in bench.desk.rows().values() if row.process_id]
    bench.desk.queue.clear_ids(bench.desk.now, CONNECTOR, record.process_id, frozenset([record.id]))
    with pytest.raises(ClaimNeeded):
        bench.poller.poll(LANE)
    assert bench.desk.methods() == ["list"], "looked again"
    assert bench.store.portals.claim(PORTAL)
    assert bench.poller.poll(LANE).state == "recovering"


def test_without_reserved_records_nobody_is_asked(bench: Bench) -> None:
    (record,) = [row for row in bench.desk.rows().values() if row.process_id]
    bench.desk.queue.clear_ids(bench.desk.now, CONNECTOR, record.process_id, frozenset([record.id]))
    assert bench.poller.poll(LANE).state == "opened"
    assert bench.desk.methods() == ["list", "get"]
    assert bench.poller.poll(LANE).state == "empty"
    assert bench.desk.methods() == ["list", "get", "get"], "looked again"


def test_after_the_takeover_it_waits_as_after_a_loss_and_adopts(bench: Bench) -> None:
    assert bench.store.portals.claim(PORTAL)
    assert bench.store.portals.get(PORTAL).ledger_epoch == CLAIMED
    assert bench.poller.poll(LANE).state == "recovering"
    assert bench.desk.methods() == []
    bench.later(TIMERS.recovery_seconds + 1)
    assert bench.poller.adopt() == ()
    bench.later(TIMERS.sighting_seconds + 1)
    (pid,) = bench.poller.adopt()
    assert bench.outcomes(pid) == {1: "unfinished"}
    adopted = bench.desk.rows()[1].message_id
    in_doubt = bench.fencing.in_doubt_until_ms([message_of("anything"), adopted])
    assert {message for message, until in in_doubt.items() if until > bench.ledger.now_ms()} == {adopted}
    assert bench.poller.poll(LANE).state == "opened"


def test_a_lost_ledger_asks_nobody(bench: Bench) -> None:
    bench.store.portals.set_epoch(PORTAL, 7)
    assert bench.poller.poll(LANE).state == "recovering"
    bench.later(TIMERS.recovery_seconds + 1)
    assert bench.poller.poll(LANE).state == "opened"


def test_a_lost_store_beside_a_living_ledger_asks_nobody(redis: Redis, tmp_path: Path) -> None:
    bench = Bench(redis, tmp_path)
    bench.changes("1", "2", "3")
    bench.poller.poll(LANE)
    bench.store.portals.set_epoch(PORTAL, None)
    assert bench.poller.poll(LANE).received == 1
    assert str(bench.store.portals.get(PORTAL).ledger_epoch) == redis.hget(f"{bench.ledger.stem}:fencing", "epoch")


def test_what_another_worker_of_ours_reserves_meanwhile_is_not_foreign(redis: Redis, tmp_path: Path) -> None:
    bench = Bench(redis, tmp_path)
    bench.changes("1", "2", "3")
    bench.store.portals.set_epoch(PORTAL, None)
    states = []

    def overtaken(method: str) -> None:
        bench.desk.before = lambda method: None
        states.append(bench.poller.poll(LANE).state)

    bench.desk.before = overtaken
    states.append(bench.poller.poll(LANE).state)
    assert states == ["opened", "opened"]


def test_another_connector_is_another_queue(bench: Bench) -> None:
    bench.store.portals.set_epoch(PORTAL, 7)
    bench.store.portals.set_state(PORTAL, ObservedState.UNDECIDED, "why")
    same = bench.store.portals.seed(PORTAL, **SEED, connector=CONNECTOR)
    assert (same.ledger_epoch, same.state) == (7, ObservedState.UNDECIDED)
    moved = bench.store.portals.seed(PORTAL, **SEED, connector="another")
    assert (moved.ledger_epoch, moved.state) == (None, ObservedState.ACTIVE)


def test_the_state_names_the_command_and_ends_with_the_takeover(bench: Bench) -> None:
    error = ClaimNeeded(PORTAL, CONNECTOR)
    standing = suspension_after(error, now_epoch=0.0)
    assert (standing.state, standing.wait_seconds) == (ObservedState.UNDECIDED, 60)
    bench.store.portals.set_state(PORTAL, standing.state, str(error), actor=error.actor)
    sample = HealthSample(next_poll_seconds=3.0)
    (issue,) = find_issues(
        bench.store.portals.get(PORTAL), sample, 0, datetime.now(UTC), dead_letter_seconds=1.0, adopts=True
    )
    assert issue.actor == "operator"
    assert "b24offline portal claim acme" in issue.message
    assert "B24_CONNECTOR" in issue.message
    assert bench.store.portals.claim(PORTAL)
    assert bench.store.portals.get(PORTAL).state is ObservedState.ACTIVE


def test_only_what_was_never_polled_can_be_taken_over(bench: Bench) -> None:
    bench.store.portals.set_epoch(PORTAL, 7)
    bench.store.portals.set_state(PORTAL, ObservedState.BLOCKED, "why")
    assert not bench.store.portals.claim(PORTAL)
    assert bench.store.portals.get(PORTAL).ledger_epoch == 7
    assert bench.store.portals.get(PORTAL).state is ObservedState.BLOCKED


def cli(folder: Path, redis: Redis, *command: str, status: int = 0) -> str:
    """Return a command of a deployment whose data is in a folder; answers what it said."""
    address = redis.connection_pool.connection_kwargs
    environ = {"B24_DATA_DIR": str(folder), "B24_REDIS_URL": f"redis://{address['host']}:{address['port']}/0"}
    done = CliRunner().invoke(main, command, env=environ)
    assert done.exit_code == status, done.output
    return done.output


def test_the_commands_of_an_operator(redis: Redis, tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/b24offline.db", Cipher([load_or_create_key(tmp_path)]))
    store.create_schema()
    store.portals.seed(PORTAL, **SEED, connector=CONNECTOR)
    assert "now belongs to this deployment." in cli(tmp_path, redis, "portal", "claim", PORTAL)
    assert "already" in cli(tmp_path, redis, "portal", "claim", PORTAL)
    assert "No portal named" in cli(tmp_path, redis, "portal", "claim", "nobody", status=2)


def test_the_removal_of_what_was_never_polled_ends_no_subscription(redis: Redis, tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/b24offline.db", Cipher([load_or_create_key(tmp_path)]))
    store.create_schema()
    store.portals.seed(PORTAL, **SEED, connector=CONNECTOR)
    cli(tmp_path, redis, "portal", "pause", PORTAL)
    # Nobody answers at its address: a call would end the command.
    assert "never polled" in cli(tmp_path, redis, "portal", "remove", PORTAL)
    assert not store.portals.get(PORTAL).served
