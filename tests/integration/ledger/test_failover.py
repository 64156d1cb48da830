"""The ledger on another server: a replica that was promoted, or the same data after a start, has forgotten a part."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from redis import Redis

from b24offline.events import ObjectKey
from b24offline.ledger import BatchKind, ObjectCache, PollLease, PollRefused, SettleLease, Snapshot
from b24offline.supervisor import EmbeddedValkey
from tests.support.core_events import PORTAL, TIMERS, entry_of, guard_on, ledger_on, message_of, opened, pass_time
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from b24offline.ledger import Fencing, Ledger


class Pair:
    """A server, and what comes after it: its replica, or itself with an older copy."""

    def __init__(self, folder: Path, exit_stack: ExitStack) -> None:
        self._servers = [exit_stack.enter_context(EmbeddedValkey(folder / name)) for name in ("first", "second")]
        self.first, self.second = (Redis.from_url(each.url, decode_responses=True) for each in self._servers)
        self.second.replicaof("127.0.0.1", self._servers[0].port)
        wait_until(lambda: self.second.info("replication")["master_link_status"] == "up", "the replica follows")

    def copy(self) -> None:
        """Let both copies hold what was written so far, and nothing of what comes."""
        self.first.execute_command("WAIT", 1, 10_000)
        self.first.save()
        self.second.replicaof("NO", "ONE")

    def restored(self) -> Redis:
        self._servers[0].stop()
        self._servers[0].start()
        return self.first


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as exit_stack:
        yield Pair(tmp_path, exit_stack)


def ledger_at(redis: Redis) -> tuple[Ledger, Fencing]:
    ledger = ledger_on(redis)
    return ledger, guard_on(redis, ledger)


@pytest.mark.parametrize("how", ["promoted replica", "restored copy"])
def test_another_server_is_noticed_as_a_loss(pair: Pair, how: str) -> None:
    """By whatever comes first: the renewal of a lease, a settle under way, one that begins, or a poll."""
    ledger, fencing = ledger_at(pair.first)
    lease = fencing.take_poll_lease(None)
    assert isinstance(lease, PollLease)
    opened(ledger, "p1", entry_of(1))
    opened(ledger, "p2", entry_of(2))
    settling = ledger.begin_settle("p1")
    assert isinstance(settling, SettleLease)
    pair.copy()
    assert fencing.open_in_doubt_window([message_of(1)], settling), "forgotten by the copy"
    ledger, fencing = ledger_at(pair.second if how == "promoted replica" else pair.restored())
    assert fencing.in_doubt_until_ms([message_of(1)]) == {}
    assert not fencing.renew(lease), "a reserving call is sent"
    orphan = {"kind": BatchKind.ADOPTED, "poll_token": lease.token, "first_seen_ms": 1}
    assert ledger.open("p3", [entry_of(3)], **orphan) is None, "an orphan is opened as if nothing were forgotten"
    assert fencing.open_in_doubt_window([message_of(1)], settling) == 0.0, "a settle under way goes on"
    assert isinstance(ledger.begin_settle("p2"), SettleLease)
    ends = fencing.in_doubt_until_ms([message_of(1), message_of(2)])
    assert all(end > ledger.now_ms() + (TIMERS.all_in_doubt_seconds - 60) * 1000 for end in ends.values())
    assert len(ends) == 2
    assert fencing.open_in_doubt_window([message_of(1)], settling) == 0.0, "a settle of before goes on"
    assert not fencing.renew(lease), "a reserving call is sent while others recover"
    refused = fencing.take_poll_lease(lease.epoch)
    assert isinstance(refused, PollRefused)
    assert refused.reason == "recovering"
    assert refused.epoch not in (None, lease.epoch)
    assert refused.wait_seconds > TIMERS.recovery_seconds - 60


def test_a_poll_notices_another_server_once(pair: Pair) -> None:
    fencing = ledger_at(pair.first)[1]
    lease = fencing.take_poll_lease(None)
    assert isinstance(lease, PollLease)
    fencing.release(lease)
    pair.copy()
    ledger, fencing = ledger_at(pair.second)
    refused = fencing.take_poll_lease(lease.epoch)
    assert isinstance(refused, PollRefused)
    assert refused.epoch not in (None, lease.epoch)
    assert fencing.in_doubt_until_ms([message_of(1)]), "what was nacked last is not known"
    pass_time(pair.second, ledger, TIMERS.recovery_seconds + 1)
    assert isinstance(fencing.take_poll_lease(refused.epoch), PollLease)


def test_a_server_that_goes_on_keeps_its_epoch(pair: Pair) -> None:
    ledger, fencing = ledger_at(pair.first)
    lease = fencing.take_poll_lease(None)
    assert isinstance(lease, PollLease)
    pair.second.replicaof("NO", "ONE")
    opened(ledger, "p1", entry_of(1))
    assert isinstance(ledger.begin_settle("p1"), SettleLease)
    assert fencing.renew(lease)
    assert fencing.in_doubt_until_ms([message_of(1)]) == {}


@pytest.mark.parametrize("how", ["promoted replica", "restored copy"])
def test_a_snapshot_of_another_server_serves_nobody(pair: Pair, how: str) -> None:
    """Its object may have changed since, and that change be acknowledged and forgotten."""
    deal = ObjectKey(PORTAL, "crm_deal", "7")
    ledger = ledger_on(pair.first)
    cache = ObjectCache(pair.first, ledger, 60)
    cache.put([Snapshot(deal, ledger.now_ms(), {"TITLE": "old"})])
    assert cache.get(deal, 0) is not None
    pair.copy()
    other = pair.second if how == "promoted replica" else pair.restored()
    cache = ObjectCache(other, ledger_on(other), 60)
    assert cache.get(deal, 0) is None
    assert cache.missing([deal], 0) == [deal]
