"""The ledger carries one schema number: another version's is refused, nothing in it changes, and a reset ends that."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from redis import Redis

from b24offline.cli import main
from b24offline.config import Config
from b24offline.contract import LEDGER_SCHEMA
from b24offline.ledger import (
    BatchKind,
    LeaseRenewer,
    Ledger,
    LedgerSchemaMismatch,
    Orphans,
    PollLease,
    other_schema,
    reset_ledgers,
)
from b24offline.ledger.lease_renewer import StepLimits, _Lease
from b24offline.runtime import Runtime
from b24offline.store import Cipher, Store, load_or_create_key
from b24offline.supervisor import SingleStart, embedded_valkey
from tests.support.core_events import (
    PORTAL,
    PREFIX,
    TIMERS,
    entry_of,
    guard_on,
    ledger_on,
    opened,
    ran,
    run_of,
    run_state,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


NEXT = LEDGER_SCHEMA + 1


def next_version(redis: Redis) -> Ledger:
    ledger = ledger_on(redis)
    ledger.transitions.schema = NEXT
    return ledger


def everything(redis: Redis) -> dict[str, object]:
    """Return what the server holds, as bytes that compare."""
    return {key: redis.dump(key) for key in redis.scan_iter("*")}


def test_the_first_poll_writes_the_number_beside_the_epoch(redis: Redis) -> None:
    ledger = ledger_on(redis)
    assert isinstance(guard_on(redis, ledger).take_poll_lease(None), PollLease)
    assert redis.hget(f"{ledger.stem}:fencing", "schema") == str(LEDGER_SCHEMA)


def test_a_batch_of_a_portal_that_was_never_polled_writes_it_too(redis: Redis) -> None:
    opened(next_version(redis), "synthetic:1", entry_of(1), kind=BatchKind.SYNTHETIC)
    with pytest.raises(LedgerSchemaMismatch):
        ledger_on(redis).take_overdue()


CHANGES: list[Callable[[Redis, Ledger], Any]] = [
    lambda redis, ledger: guard_on(redis, ledger).take_poll_lease(None),
    lambda redis, ledger: ledger.open("p2", [entry_of(2)], kind=BatchKind.ADOPTED),
    lambda _, ledger: ledger.start("p1"),
    lambda _, ledger: ledger.begin_step(run_of(1), 1, 1),
    lambda _, ledger: ledger.renew(run_of(1), 1, 0),
    lambda _, ledger: ledger.succeed(run_of(1), 1),
    lambda _, ledger: ledger.crash(run_of(1), 1, backoff_seconds=1),
    lambda _, ledger: ledger.take_overdue(),
    lambda _, ledger: ledger.begin_settle("p1"),
    lambda _, ledger: ledger.forget("p1"),
    lambda redis, ledger: Orphans(redis, ledger, TIMERS).note_page(0, None, ["p1"], unreadable=0),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_ledger_of_another_schema_is_refused_and_stays_as_it_is(
    redis: Redis, change: Callable[[Redis, Ledger], Any]
) -> None:
    (handed,) = opened(next_version(redis), "p1", entry_of(1))
    ran(next_version(redis), handed)
    before = everything(redis)
    with pytest.raises(LedgerSchemaMismatch) as caught:
        change(redis, ledger_on(redis))
    assert everything(redis) == before
    text = str(caught.value)
    assert (PORTAL in text, f"schema {NEXT}" in text, "b24offline ledger reset" in text) == (True, True, True)
    assert caught.value.actor == "operator"
    assert str(pickle.loads(pickle.dumps(caught.value))) == text


def test_a_lease_of_another_version_is_let_go_and_the_thread_lives(redis: Redis) -> None:
    (handed,) = opened(next_version(redis), "p1", entry_of(1))
    ran(next_version(redis), handed)
    renewer = LeaseRenewer(60)
    lease = _Lease(PORTAL, handed.run, lambda: ledger_on(redis).renew(handed.run, handed.attempt, 0), StepLimits())
    renewer._leases.add(lease)
    renewer._renew(lease)
    assert renewer._leases == set()


def test_all_portals_are_asked_at_once(redis: Redis) -> None:
    assert other_schema(redis, PREFIX, []) is None
    opened(ledger_on(redis, portal="ours"), "p1", entry_of(1))
    assert other_schema(redis, PREFIX, ["ours", "never"]) is None
    opened(next_version(redis), "p1", entry_of(1))
    found = other_schema(redis, PREFIX, ["ours", PORTAL])
    assert (found.portal, found.found, found.known) == (PORTAL, str(NEXT), LEDGER_SCHEMA) if found else False


def test_a_reset_deletes_what_is_below_the_prefix_only(redis: Redis) -> None:
    opened(next_version(redis), "p1", entry_of(1))
    redis.set(f"{PREFIX}:polls", 1)
    redis.set("b24offline.poll", "a queue")
    number = redis.dbsize() - 1
    assert reset_ledgers(redis, PREFIX) == number
    assert redis.keys() == ["b24offline.poll"]
    assert reset_ledgers(redis, PREFIX) == 0
    (handed,) = opened(ledger_on(redis), "p1", entry_of(1))
    assert run_state(redis, ledger_on(redis), handed.run) == "ready"


@pytest.fixture
def deployment(redis: Redis, tmp_path: Path) -> dict[str, str]:
    """The environment of a deployment whose one portal has a ledger of the next version."""
    store = Store(f"sqlite:///{tmp_path}/b24offline.db", Cipher([load_or_create_key(tmp_path)]))
    store.create_schema()
    seed = {"client_endpoint": "https://acme.bitrix24.com/rest/", "client_id": "local.1", "client_secret": "s"}
    store.portals.seed(PORTAL, **seed, connector="b24", auth_url="https://oauth.bitrix.info/oauth/token/")
    opened_by = Ledger(redis, "b24offline", PORTAL, TIMERS)
    opened_by.transitions.schema = NEXT
    opened(opened_by, "p1", entry_of(1))
    address = redis.connection_pool.connection_kwargs
    return {"B24_DATA_DIR": str(tmp_path), "B24_REDIS_URL": f"redis://{address['host']}:{address['port']}/0"}


def test_what_starts_refuses_and_a_reset_lets_it_start(deployment: dict[str, str]) -> None:
    from b24offline.tasks.celery_app import refuse_other_ledger  # noqa: PLC0415 - it reads the settings

    config = Config.load(deployment)
    with pytest.raises(SystemExit, match="ledger reset"):
        refuse_other_ledger(config)
    with pytest.raises(LedgerSchemaMismatch):
        Runtime(config).check_ledger_schema()
    for command in (("up",), ("status",)):
        refused = CliRunner().invoke(main, command, env=deployment)
        assert (refused.exit_code != 0, "b24offline ledger reset" in refused.output) == (True, True), refused.output
    asked = CliRunner().invoke(main, ["ledger", "reset"], env=deployment, input="n\n")
    assert asked.exit_code == 1
    with pytest.raises(SystemExit):
        refuse_other_ledger(config)
    done = CliRunner().invoke(main, ["ledger", "reset", "--yes"], env=deployment)
    assert (done.exit_code, "keys were deleted" in done.output) == (0, True), done.output
    refuse_other_ledger(config)


def test_a_start_without_a_ledger_is_not_refused(tmp_path: Path) -> None:
    from b24offline.tasks.celery_app import refuse_other_ledger  # noqa: PLC0415 - it reads the settings

    refuse_other_ledger(Config.load({"B24_DATA_DIR": str(tmp_path), "B24_REDIS_URL": "redis://127.0.0.1:1/0"}))


def test_a_reset_of_a_stopped_deployment_starts_its_embedded_server(tmp_path: Path) -> None:
    environ = {"B24_DATA_DIR": str(tmp_path)}
    config = Config.load(environ)
    with embedded_valkey(config) as server, Redis.from_url(server.url) as redis:
        opened_by = Ledger(Redis.from_url(server.url, decode_responses=True), "b24offline", PORTAL, TIMERS)
        opened_by.transitions.schema = NEXT
        opened(opened_by, "p1", entry_of(1))
        assert redis.dbsize() > 0
        with SingleStart(tmp_path):
            refused = CliRunner().invoke(main, ["ledger", "reset", "--yes"], env=environ)
        assert (refused.exit_code, "already" in refused.output) == (2, True), refused.output
    done = CliRunner().invoke(main, ["ledger", "reset", "--yes"], env=environ)
    assert done.exit_code == 0, done.output
    with embedded_valkey(config) as server, Redis.from_url(server.url) as redis:
        assert redis.dbsize() == 0
