"""Each alert fires by its fault: a real deployment, exporter and Prometheus, with the rules that are shipped.

Only the time that an alert waits is shortened, and where an issue begins after minutes or days of the same, the moment
when that began is moved back in ledger and store.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.fernet import Fernet
from redis import Redis

from b24offline import keys
from b24offline.ledger import RECONCILE, BatchKind, JobQueue
from b24offline.monitoring import IssueCode
from b24offline.store import Cipher, Store
from b24offline.supervisor import EmbeddedValkey, child_environ
from tests.support.chains import MODE
from tests.support.prometheus import Exporter, Prometheus, binary
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tools.alert_rules import EXPORTER_ALERTS, alert_name, rules

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = 86_400
BROKER_USER = "shop"
SETTINGS = {
    "B24_PIPELINES": "tests.support.chains",
    "B24_EVENTS": "ONCRMDEALADD,ONCRMDEALUPDATE,ONCRMDEALDELETE,ONNOSUCHEVENT",
    "B24_MAX_ATTEMPTS": "1",
    "B24_BATCH_SIZE": "5",
    "B24_MAX_IN_FLIGHT_BATCHES": "2",
}


class Watched:
    """A deployment, and who watches it."""

    def __init__(self, stack: Stack, prometheus: Prometheus, exporter: Exporter, valkey: EmbeddedValkey) -> None:
        self.stack, self.prometheus, self.exporter, self.valkey = stack, prometheus, exporter, valkey
        self.redis, self.control, self.runtime = stack.runtime.redis, stack.control, stack.runtime
        self.ledger = stack.services.ledger
        self.fired: dict[str, float] = {}

    def expect(self, *codes: IssueCode | str) -> None:
        """Wait until the alerts of these issues, or of these names, fire."""
        began = time.monotonic()
        for code in codes:
            name = alert_name(code) if isinstance(code, IssueCode) else code
            wait_until(lambda name=name: name in self.prometheus.firing(), f"{name} fires", 120)
            self.fired[name] = time.monotonic() - began

    def move_back(self, key: str, field: str, seconds: float) -> None:
        """Let something in the ledger have begun longer ago."""
        assert self.redis.hexists(key, field), f"nothing has begun: {key} {field}"
        self.redis.hincrby(key, field, -round(seconds * 1000))

    @contextmanager
    def fault(self, match: str, kind: str, **plan: object) -> Iterator[None]:
        """Keep a fault of the portal as long as the block lasts."""
        number = self.control.fault(match, kind, **plan)
        yield
        wait_until(lambda: self.control.fired(number), f"{kind} meets a call", 60)
        self.control.disarm(number)

    def deal(self, mode: str = "") -> None:
        """Change one deal whose handler fails, or hangs, in a way."""
        (number,) = self.control.change("crm_deal", "add")
        if mode:
            self.redis.hset(MODE, f"crm_deal {number}", mode)

    def serve_for_long(self) -> None:
        """Let the portal have been served for an hour."""
        since = time.time() - 4000
        with self.runtime.store.engine.begin() as connection:
            connection.exec_driver_sql(f"update portals set state_since = {since}, desired_since = {since}")

    def polled(self) -> int:
        """Return how many batches are open that polls have opened."""
        return sum(self.ledger.kind(pid) is BatchKind.POLLED for pid in self.ledger.open_batches())

    def batch(self, kind: BatchKind) -> str:
        """Wait for an open batch of a kind, and return its key."""
        process_id = wait_until(
            lambda: next((pid for pid in self.ledger.open_batches() if self.ledger.kind(pid) is kind), None),
            f"a {kind} batch is open",
        )
        return keys.batch(self.ledger.stem, process_id)


def by_messages_and_subscriptions(watched: Watched) -> None:
    watched.redis.lpush("b24offline.events", "no message")
    watched.expect(IssueCode.BROKER_MESSAGES, IssueCode.SUBSCRIPTION_REFUSED)


def by_a_broker_that_does_not_tell(watched: Watched) -> None:
    watched.redis.execute_command("ACL", "SETUSER", BROKER_USER, "-info")
    watched.expect(IssueCode.BROKER_UNSEEN)
    watched.redis.execute_command("ACL", "SETUSER", BROKER_USER, "+info")


def by_lost_events(watched: Watched) -> None:
    watched.stack.beat.stop()  # nobody polls while the records vanish
    watched.deal()
    watched.control.drop_records()
    watched.stack.beat.start()
    time.sleep(watched.runtime.grace_seconds + 1.5)
    command = [sys.executable, "-m", "b24offline", "reconcile", "--portal", watched.ledger.portal, "--since", "1h"]
    subprocess.run(command, env=child_environ(watched.stack.variables), check=True, capture_output=True, timeout=200)
    watched.expect(IssueCode.MISSED_CHANGES)


def by_hostile_records(watched: Watched) -> None:
    with watched.fault("event.offline.*", "large_rows", stage="after", size=100_000):
        watched.deal()
        watched.expect(IssueCode.OVERSIZED)
    with watched.fault("event.offline.*", "broken_rows", stage="after"):
        watched.control.change("crm_deal", "add", count=5)  # the third lacks its message id
        watched.expect(IssueCode.UNREADABLE_RECORDS)


def by_failing_handlers(watched: Watched) -> None:
    watched.deal("permanent")
    watched.expect(IssueCode.DEAD_LETTERS)
    watched.deal("fail")
    watched.move_back(watched.batch(BatchKind.RETRYING), "first_seen", 20 * DAY)
    watched.expect(IssueCode.RETRYING_TOO_LONG)


def by_a_silent_portal(watched: Watched) -> None:
    stem = watched.ledger.stem
    with watched.fault("event.offline.list", "hang", seconds=20):
        wait_until(lambda: watched.redis.hexists(keys.calls(stem), "silent:event.offline.list"), "its circuit is open")
        watched.move_back(keys.calls(stem), "silent:event.offline.list", 700)
        watched.move_back(keys.look(stem), "ended", 3000)
        watched.expect(IssueCode.NOT_ANSWERING)
        # Each call that is not answered suspends the portal anew: its time of service is set until the alert fires.
        fires = alert_name(IssueCode.ORPHANS)
        began = time.monotonic()
        wait_until(lambda: watched.serve_for_long() or fires in watched.prometheus.firing(), f"{fires} fires", 120)
        watched.fired[fires] = time.monotonic() - began


def by_a_reconciliation_that_nobody_works_on(watched: Watched) -> None:
    watched.stack.beat.stop()
    jobs = keys.jobs(watched.ledger.stem)
    number = JobQueue(watched.redis, watched.ledger).enqueue(RECONCILE, {"why": "by hand", "since_ms": 0})
    asked, _, rest = number.partition("-")
    old = f"{int(asked) - 3 * DAY * 1000}-{rest}"
    watched.redis.hset(jobs, old, str(watched.redis.hget(jobs, number)))
    watched.redis.hdel(jobs, number)
    watched.expect(IssueCode.RECONCILIATION_STUCK)
    watched.redis.hdel(jobs, old)
    watched.stack.beat.start()


def by_hanging_handlers(watched: Watched) -> None:
    watched.redis.set("test:slow_seconds", 300)
    for count in (1, 2):
        watched.deal("slow")
        wait_until(lambda least=count: watched.polled() >= least, "its batch is open")
    watched.deal("slow")
    watched.move_back(watched.batch(BatchKind.POLLED), "first_seen", 4000)
    full = keys.full(watched.ledger.stem)
    wait_until(lambda: watched.redis.hkeys(full), "the lane is full")
    watched.move_back(full, "default", 700)
    watched.expect(IssueCode.OLD_BATCH, IssueCode.GATE_FULL)


def by_operators(watched: Watched) -> None:
    store = watched.runtime.store
    account = {name: getattr(store.portals.get("acme"), name) for name in ("client_endpoint", "auth_url", "client_id")}
    store.portals.add("elder", refresh_token="canary", client_secret="canary", connector="elder", **account)
    watched.redis.hset(keys.fencing(keys.stem(watched.ledger.key_prefix, "elder")), "schema", "999")
    other = Store(store.engine, Cipher([Fernet.generate_key().decode()]))
    other.portals.seed("foreign", client_secret="canary", connector="foreign", **account)
    watched.control.revoke_tokens()
    watched.expect(IssueCode.LEDGER_SCHEMA, IssueCode.WRONG_KEY, IssueCode.PORTAL_STATE)


def by_a_full_ledger(watched: Watched) -> None:
    used = int(watched.redis.info("memory")["used_memory"])
    watched.redis.config_set("maxmemory", int(used / 0.9))
    watched.expect(IssueCode.LEDGER_FULL, IssueCode.BROKER_FULL)  # it is the broker's, too
    watched.redis.config_set("maxmemory", 0)


def by_dead_processes(watched: Watched) -> None:
    for process in (watched.stack.beat, *watched.stack.workers):
        process.kill()
    watched.expect(IssueCode.NOT_POLLED)
    watched.valkey.__exit__(None, None, None)
    watched.expect(IssueCode.LEDGER_UNREACHABLE, "B24OfflinePartDown")
    watched.exporter.stop()
    watched.expect("B24OfflineExporterDown")


@pytest.mark.timeout(1200)
def test_each_alert_fires_by_its_fault(tmp_path: Path) -> None:
    binary("prometheus")
    at_once = re.sub(r"for: \w+", "for: 1s", rules())
    with ExitStack() as running:
        valkey = running.enter_context(EmbeddedValkey(tmp_path / "valkey"))
        client = running.enter_context(closing(Redis.from_url(valkey.url)))
        client.execute_command("ACL", "SETUSER", BROKER_USER, "on", ">secret", "~*", "&*", "+@all")
        broker = f"redis://{BROKER_USER}:secret@127.0.0.1:{valkey.port}/0"
        stack = running.enter_context(Stack(tmp_path / "stack", valkey.url, broker, variables=SETTINGS, concurrency=6))
        exporter = Exporter(stack.variables)
        try:
            with Prometheus(tmp_path / "prometheus", exporter.address, at_once) as prometheus:
                wait_until(lambda: prometheus.values("b24offline_up"), "it is scraped")
                watched = Watched(stack, prometheus, exporter, valkey)
                for fault in (
                    *(by_messages_and_subscriptions, by_a_broker_that_does_not_tell, by_lost_events),
                    *(by_hostile_records, by_failing_handlers),
                    *(by_a_silent_portal, by_a_reconciliation_that_nobody_works_on, by_hanging_handlers),
                    *(by_operators, by_a_full_ledger, by_dead_processes),
                ):
                    print(f"{fault.__name__}: {sorted(prometheus.firing())} before")
                    fault(watched)
        finally:
            exporter.stop()
            stack.show()
    print({name: round(seconds, 1) for name, seconds in watched.fired.items()})
    assert set(watched.fired) == {alert_name(code) for code in IssueCode} | {alert.name for alert in EXPORTER_ALERTS}
