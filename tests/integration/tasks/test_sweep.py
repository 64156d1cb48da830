"""Tick and sweep over several portals: an error of one portal stops no other, and no portal is asked too often."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import update

from b24offline import contract, keys
from b24offline.delivery.sweeper import Sweeper
from b24offline.events import DesiredState, ObservedState
from b24offline.ledger import Overdue, glances
from b24offline.reconciliation import ReconcileSchedule
from b24offline.store import PORTALS, Cipher, Reading
from b24offline.store.schema import OBJECTS
from b24offline.tasks.poll import poll, tick
from b24offline.tasks.publish import send_dispatch
from b24offline.tasks.queue_depth import no_step_waits
from b24offline.tasks.sweep import sweep
from tests.support.celery_bench import broker, deployed, nowhere
from tests.support.core_events import adoptable

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis

    from b24offline.runtime import Runtime

__all__ = ["broker", "deployed", "nowhere"]

FIRST, SECOND = "acme", "zeta"


class Sweeps:
    """Two portals, and what each sweep asks for."""

    def __init__(self, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runtime = runtime
        self.asked: Counter[tuple[str, str]] = Counter()
        runtime.store.portals.seed(
            SECOND,
            client_endpoint="https://zeta.example/rest/",
            auth_url="https://auth.example/",
            client_id="app.1",
            client_secret="s",
            connector="b24offline",
            refresh_token="r",
        )
        monkeypatch.setattr(sweep.app, "send_task", lambda name, args=(), **_: self.sent(name, args[0] if args else ""))

    def sent(self, name: str, portal: str) -> None:
        self.asked[name, portal] += 1

    def stem(self, name: str) -> str:
        return keys.stem(self.runtime.config.redis_key_prefix, name)

    def later(self, seconds: float) -> None:
        """Let visits and looks of the first portal be older."""
        key = keys.visits(self.stem(FIRST))
        for what in set(self.runtime.redis.hkeys(key)) - {"seen"}:
            self.runtime.redis.hincrby(key, what, -round(seconds * 1000))

    def look_ends(self) -> None:
        """End the look at what the first portal has reserved."""
        asked = self.runtime.redis.hget(keys.visits(self.stem(FIRST)), "adopt")
        self.runtime.redis.hset(keys.look(self.stem(FIRST)), "ended", int(asked))

    def play(self, *still: str) -> str:
        """Sweep once more; what was asked for has been read, and everything is due again except ``still``."""
        self.runtime.redis.delete(keys.queued(self.runtime.config.redis_key_prefix))
        if "visits" not in still:
            self.runtime.redis.delete(*(keys.visits(self.stem(name)) for name in (FIRST, SECOND)))
        for key in self.runtime.redis.keys("*:once:*"):
            if not any(f":once:{what}" in key for what in still):
                self.runtime.redis.delete(key)
        return sweep()


@pytest.fixture
def sweeps(deployed: Callable[..., Runtime], monkeypatch: pytest.MonkeyPatch) -> Sweeps:
    return Sweeps(deployed(), monkeypatch)


def test_a_portal_with_damaged_keys_does_not_stop_the_sweep(
    sweeps: Sweeps, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    redis.set(f"{sweeps.runtime.services(FIRST).ledger.stem}:batches", "not a sorted set")
    sweeps.play()
    assert (contract.TASK_ADOPT, SECOND) in sweeps.asked
    assert (contract.TASK_ADOPT, FIRST) not in sweeps.asked
    reply = [record for record in caplog.records if record.msg == "portal skipped by the sweep"]
    assert [vars(record)["portal"] for record in reply] == [FIRST]


def test_only_portals_with_open_work_are_asked_for_what_is_overdue(
    sweeps: Sweeps, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    nothing = Overdue((), ())
    monkeypatch.setattr(Sweeper, "take_overdue", lambda self, **_: (asked.append(self._portal.name), nothing)[1])
    sweeps.play()
    assert asked == []
    redis.zadd(f"{sweeps.runtime.services(SECOND).ledger.stem}:due", {"run:1@2/p": 1})
    sweeps.play()
    assert asked == [SECOND]
    redis.zadd(f"{sweeps.runtime.services(FIRST).ledger.stem}:batches", {"1234": 1})
    sweeps.play()
    assert asked == [SECOND, FIRST, SECOND]


def test_the_mirrors_retention_is_kept_once_a_day(sweeps: Sweeps) -> None:
    """An object that was deleted longer ago than `B24_RETENTION_DAYS` leaves the mirror, by itself."""
    mirror, now_ms = sweeps.runtime.mirror, round(time.time() * 1000)
    for number in "123":
        mirror.write(FIRST, [Reading("crm_deal", number, {}, 1)])
    for number in "12":
        mirror.write(FIRST, [Reading("crm_deal", number, None, now_ms)])
    older = datetime.now(UTC) - timedelta(days=sweeps.runtime.config.retention_days + 1)
    with sweeps.runtime.store.engine.begin() as connection:
        connection.execute(update(OBJECTS).where(OBJECTS.c.object_id == "1").values(deleted_at=older, updated_at=older))
    sweeps.play("clean")
    assert [row.object_id for row in mirror.rows(FIRST)] == ["2", "3"]
    with sweeps.runtime.store.engine.begin() as connection:
        connection.execute(update(OBJECTS).where(OBJECTS.c.object_id == "2").values(deleted_at=older, updated_at=older))
    sweeps.play("clean")
    assert mirror.count(FIRST) == 2, "looked at today"
    sweeps.play()
    assert [row.object_id for row in mirror.rows(FIRST)] == ["3"]


@pytest.mark.parametrize("key", ["batches", "due"])
def test_open_work_is_found_among_more_portals_than_one_page(redis: Redis, key: str) -> None:
    names = [f"p{number}" for number in range(1_100)]
    wanted = {"p0", "p499", "p500", "p1099"}
    for name in wanted:
        redis.zadd(f"x:{{{name}}}:{key}", {"1": 1})
    redis.zadd("x:{p7}:orphans", {"1": 1})
    assert {name for name, glance in glances(redis, "x", names).items() if glance.open_work} == wanted
    assert glances(redis, "x", []) == {}


def store_with_another_key(runtime: Runtime, name: str) -> None:
    foreign = Cipher([Fernet.generate_key().decode()])
    with runtime.store.engine.begin() as connection:
        values = {"client_secret": foreign.encrypt("s", ())}
        connection.execute(update(PORTALS).where(PORTALS.c.name == name).values(**values))
    runtime._services.clear()


def test_a_portal_with_a_foreign_secret_does_not_stop_the_sweep(
    sweeps: Sweeps, caplog: pytest.LogCaptureFixture
) -> None:
    store_with_another_key(sweeps.runtime, FIRST)
    for _ in range(3):
        sweeps.play()
    assert (contract.TASK_ADOPT, SECOND) in sweeps.asked
    assert (contract.TASK_ADOPT, FIRST) not in sweeps.asked
    reply = [vars(record) for record in caplog.records if record.msg == "portal skipped by the sweep"]
    assert {fields["portal"] for fields in reply} == {FIRST}
    assert "does not open the client secret of portal acme" in reply[0]["why"]
    alarms = [vars(record) for record in caplog.records if record.msg == "alarm"]
    assert [fields["issue"][:28] for fields in alarms if fields["portal"] == FIRST] == ["The secret key does not open"]


def test_a_portal_with_a_foreign_secret_does_not_stop_the_tick(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store_with_another_key(sweeps.runtime, FIRST)
    monkeypatch.setattr(poll, "delay", lambda portal: sweeps.sent(contract.TASK_POLL, portal))
    monkeypatch.setattr(sweeps.runtime, "ensure_configured_portal", lambda: None)
    assert tick() == f"due: {FIRST}, {SECOND}"
    assert {portal for name, portal in sweeps.asked if name == contract.TASK_POLL} == {SECOND}
    assert [vars(record)["portal"] for record in caplog.records if record.msg == "portal skipped by the tick"] == [
        FIRST
    ]


def test_a_broker_or_a_ledger_that_is_away_ends_the_sweep(sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(sweep.app, "send_task", away)
    with pytest.raises(ConnectionError):
        sweeps.play()


def test_a_blocked_portal_is_called_by_polls_only(sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps.runtime.store.portals.set_state(FIRST, ObservedState.BLOCKED, "OVERLOAD_LIMIT", actor="operator")
    reconciled: list[str] = []
    monkeypatch.setattr(ReconcileSchedule, "due_kinds", lambda _, portal: reconciled.append(portal.name) or ())
    sweeps.play()
    assert reconciled == [SECOND]
    assert {portal for name, portal in sweeps.asked if name in (contract.TASK_ADOPT, contract.TASK_REDRIVE)} == {SECOND}


def test_an_idle_portal_is_looked_at_seldom(sweeps: Sweeps) -> None:
    """Each look is a request to the portal, and thousands of portals are idle."""
    services, timers = sweeps.runtime.services(FIRST), sweeps.runtime.timers
    for _ in range(3):
        sweeps.play("visits")
        sweeps.look_ends()
    looks = (sweeps.asked[contract.TASK_ADOPT, FIRST], sweeps.asked[contract.TASK_REDRIVE, FIRST])
    assert looks == (1, 1)
    adoptable(services.redis, services.ledger, ["1234"])
    sweeps.later(timers.sighting_seconds / 3)
    sweeps.play("visits")
    looks = (sweeps.asked[contract.TASK_ADOPT, FIRST], sweeps.asked[contract.TASK_REDRIVE, FIRST])
    assert looks == (2, 1), "an orphan is known"
    sweeps.later(timers.idle_look_seconds)
    sweeps.play("visits")
    looks = (sweeps.asked[contract.TASK_ADOPT, FIRST], sweeps.asked[contract.TASK_REDRIVE, FIRST])
    assert looks == (3, 2)


def test_where_records_are_reserved_looks_come_more_often(sweeps: Sweeps) -> None:
    services, timers = sweeps.runtime.services(FIRST), sweeps.runtime.timers
    sweeps.play("visits")
    sweeps.look_ends()
    services.ledger.count("events_seen", 3)
    for seconds in (0, timers.sighting_seconds - 20, 30):
        sweeps.later(seconds)
        sweeps.play("visits")
    assert sweeps.asked[contract.TASK_ADOPT, FIRST] == 2
    assert sweeps.asked[contract.TASK_REDRIVE, FIRST] == 2
    assert sweeps.asked[contract.TASK_ADOPT, SECOND] == 1


def test_a_look_that_did_not_end_is_asked_for_again(sweeps: Sweeps) -> None:
    sweeps.play("visits")
    sweeps.later(sweeps.runtime.timers.sighting_seconds / 3)
    sweeps.play("visits")
    assert sweeps.asked[contract.TASK_ADOPT, FIRST] == 2


def test_a_command_may_ask_for_a_turn_at_nacked_records(sweeps: Sweeps) -> None:
    sweeps.play("visits")
    sweeps.look_ends()
    sweeps.runtime.ask_for_sweep(FIRST)
    sweeps.play("visits")
    assert (sweeps.asked[contract.TASK_REDRIVE, FIRST], sweeps.asked[contract.TASK_ADOPT, FIRST]) == (2, 1)


def test_a_draining_portal_is_visited_though_it_is_quiet(sweeps: Sweeps) -> None:
    sweeps.play("visits")
    sweeps.look_ends()
    sweeps.runtime.store.portals.set_desired_state(FIRST, DesiredState.DRAINING)
    long_ago = time.time() - sweeps.runtime.timers.sweep_seconds - 1
    with sweeps.runtime.store.engine.begin() as connection:
        connection.execute(update(PORTALS).where(PORTALS.c.name == FIRST).values(desired_since=long_ago))
    sweeps.runtime._services.clear()
    sweeps.play("visits")
    assert sweeps.runtime.store.portals.get(FIRST).desired_state is DesiredState.PAUSED


def test_whether_a_step_waits_is_asked_of_the_broker(
    deployed: Callable[..., Runtime], broker: Callable[[str], None], nowhere: str
) -> None:
    deployed()
    assert no_step_waits()
    send_dispatch(FIRST, "p1")
    assert not no_step_waits()
    broker(nowhere)
    assert not no_step_waits(), "a broker that does not tell was taken for an empty one"
