"""A first start beside records that somebody else has reserved: nothing is taken before a person has decided."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from b24offline.cli import main
from b24offline.delivery.portal_lifecycle import back_off_after
from b24offline.errors import ClaimNeeded
from b24offline.events import CLAIMED, ObservedState
from b24offline.monitoring import HealthSample
from b24offline.monitoring.health import find_issues
from b24offline.store import Cipher, Store, load_or_create_key
from tests.support.core_events import PORTAL, TIMERS, reserve
from tests.support.deployment import LANE, SEED, Deployment
from tests.support.portal_desk import CONNECTOR

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis


@pytest.fixture
def acme(redis: Redis, tmp_path: Path) -> Deployment:
    """A deployment that has not polled yet, at a portal where another one has reserved a record."""
    acme = Deployment(redis, tmp_path, polled=False)
    acme.changes("1")
    assert reserve(acme.queue, 1) is not None
    acme.changes("2")
    acme.desk.calls.clear()
    return acme


def test_nothing_is_reserved_adopted_or_redriven(acme: Deployment) -> None:
    acme.desk.change("3")
    for _ in range(3):
        with pytest.raises(ClaimNeeded, match=f"portal claim {PORTAL}"):
            acme.poller.poll(LANE)
        assert acme.poller.adopt() == ()
        assert acme.poller.redrive(acme.queue.reserved()) == ()
        acme.later(TIMERS.sighting_seconds + 1)
    assert set(acme.desk.methods()) == {"list"}
    assert acme.store.portals.get(PORTAL).ledger_epoch is None
    assert acme.ledger.open_batches() == {}


def test_once_seen_it_stays_asked_though_the_records_are_settled_by_whoever_lives(acme: Deployment) -> None:
    with pytest.raises(ClaimNeeded) as reply:
        acme.poller.poll(LANE)
    acme.store.portals.set_state(PORTAL, ObservedState.UNDECIDED, str(reply.value))
    (record,) = [row for row in acme.desk.rows().values() if row.process_id]
    acme.desk.queue.clear_ids(acme.desk.now, CONNECTOR, record.process_id, frozenset([record.id]))
    with pytest.raises(ClaimNeeded):
        acme.poller.poll(LANE)
    assert acme.desk.methods() == ["list"], "looked again"
    assert acme.store.portals.claim(PORTAL)
    assert acme.poller.poll(LANE).state == "recovering"


def test_without_reserved_records_nobody_is_asked(acme: Deployment) -> None:
    (record,) = [row for row in acme.desk.rows().values() if row.process_id]
    acme.desk.queue.clear_ids(acme.desk.now, CONNECTOR, record.process_id, frozenset([record.id]))
    assert acme.poller.poll(LANE).state == "opened"
    assert acme.desk.methods() == ["list", "get"]
    assert acme.poller.poll(LANE).state == "empty"
    assert acme.desk.methods() == ["list", "get", "get"], "looked again"


def test_after_the_takeover_it_waits_as_after_a_loss_and_adopts(acme: Deployment) -> None:
    assert acme.store.portals.claim(PORTAL)
    assert acme.store.portals.get(PORTAL).ledger_epoch == CLAIMED
    assert acme.poller.poll(LANE).state == "recovering"
    assert acme.desk.methods() == []
    acme.later(TIMERS.recovery_seconds + 1)
    assert acme.poller.adopt() == ()
    acme.later(TIMERS.all_in_doubt_seconds - TIMERS.recovery_seconds)
    (pid,) = acme.poller.adopt()
    assert acme.outcomes(pid) == {1: "unfinished"}
    assert acme.poller.poll(LANE).state == "opened"


def test_a_lost_ledger_asks_nobody(acme: Deployment) -> None:
    acme.store.portals.set_epoch(PORTAL, 7)
    assert acme.poller.poll(LANE).state == "recovering"
    acme.later(TIMERS.recovery_seconds + 1)
    assert acme.poller.poll(LANE).state == "opened"


def test_a_lost_store_beside_a_living_ledger_asks_nobody(redis: Redis, tmp_path: Path) -> None:
    acme = Deployment(redis, tmp_path)
    acme.changes("1", "2", "3")
    acme.poller.poll(LANE)
    acme.store.portals.set_epoch(PORTAL, None)
    assert acme.poller.poll(LANE).received == 1
    assert str(acme.store.portals.get(PORTAL).ledger_epoch) == redis.hget(f"{acme.ledger.stem}:fencing", "epoch")


def test_what_another_worker_of_ours_reserves_meanwhile_is_not_foreign(redis: Redis, tmp_path: Path) -> None:
    acme = Deployment(redis, tmp_path)
    acme.changes("1", "2", "3")
    acme.store.portals.set_epoch(PORTAL, None)
    states = []

    def overtaken(method: str) -> None:
        acme.desk.before = lambda method: None
        states.append(acme.poller.poll(LANE).state)

    acme.desk.before = overtaken
    states.append(acme.poller.poll(LANE).state)
    assert states == ["opened", "opened"]


def test_another_connector_is_another_queue(acme: Deployment) -> None:
    acme.store.portals.set_epoch(PORTAL, 7)
    acme.store.portals.set_state(PORTAL, ObservedState.UNDECIDED, "why")
    same = acme.store.portals.seed(PORTAL, **SEED)
    assert (same.ledger_epoch, same.state) == (7, ObservedState.UNDECIDED)
    moved = acme.store.portals.seed(PORTAL, **{**SEED, "connector": "another"})
    assert (moved.ledger_epoch, moved.state) == (None, ObservedState.ACTIVE)


def test_the_state_names_the_command_and_ends_with_the_takeover(acme: Deployment) -> None:
    error = ClaimNeeded(PORTAL, CONNECTOR)
    back_off = back_off_after(error, now_epoch=0.0)
    assert (back_off.state, back_off.wait_seconds) == (ObservedState.UNDECIDED, 60)
    acme.store.portals.set_state(PORTAL, back_off.state, str(error), actor=error.actor)
    sample = HealthSample(next_poll_seconds=3.0)
    (issue,) = find_issues(
        acme.store.portals.get(PORTAL), sample, 0, datetime.now(UTC), dead_letter_seconds=1.0, adopts=True
    )
    assert issue.actor == "operator"
    assert "b24offline portal claim acme" in issue.message
    assert "B24_CONNECTOR" in issue.message
    assert acme.store.portals.claim(PORTAL)
    assert acme.store.portals.get(PORTAL).state is ObservedState.ACTIVE


def test_only_what_was_never_polled_can_be_taken_over(acme: Deployment) -> None:
    acme.store.portals.set_epoch(PORTAL, 7)
    acme.store.portals.set_state(PORTAL, ObservedState.BLOCKED, "why")
    assert not acme.store.portals.claim(PORTAL)
    assert acme.store.portals.get(PORTAL).ledger_epoch == 7
    assert acme.store.portals.get(PORTAL).state is ObservedState.BLOCKED


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
    store.portals.seed(PORTAL, **SEED)
    assert "now belongs to this deployment." in cli(tmp_path, redis, "portal", "claim", PORTAL)
    assert "already" in cli(tmp_path, redis, "portal", "claim", PORTAL)
    assert "No portal named" in cli(tmp_path, redis, "portal", "claim", "nobody", status=2)


def test_the_removal_of_what_was_never_polled_ends_no_subscription(redis: Redis, tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/b24offline.db", Cipher([load_or_create_key(tmp_path)]))
    store.create_schema()
    store.portals.seed(PORTAL, **SEED)
    cli(tmp_path, redis, "portal", "pause", PORTAL)
    # Nobody answers at its address: a call would end the command.
    assert "never polled" in cli(tmp_path, redis, "portal", "remove", PORTAL, "--yes")
    assert not store.portals.get(PORTAL).served
