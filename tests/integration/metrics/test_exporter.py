"""What the exporter shows of a real ledger and store, in how much time, and what it does when one of them is gone."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from b24offline import keys
from b24offline.config import Config
from b24offline.counters import BOUNDS_SECONDS
from b24offline.ledger import BatchKind, Ledger, QueuedMessages
from b24offline.metrics import DEFINITIONS, Exporter, serve
from b24offline.metrics.exporter import WAIT_SECONDS
from b24offline.runtime import Runtime
from b24offline.supervisor import EmbeddedValkey
from tests.support.core_events import TIMERS, entry_of, opened, pass_time, ran
from tests.support.ports import free_port
from tests.support.prometheus import promtool
from tests.support.store_bench import PORTAL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis

PREFIX = "b24offline"


@pytest.fixture
def runtime(tmp_path: Path, redis: Redis, valkey: EmbeddedValkey) -> Iterator[Runtime]:
    runtime = Runtime(Config.load({"B24_REDIS_URL": valkey.url, "B24_DATA_DIR": str(tmp_path)}))
    yield runtime
    runtime.close()


def add(runtime: Runtime, name: str) -> Ledger:
    account = {"client_endpoint": f"https://{name}.example/rest/", "member_id": name}
    runtime.store.portals.add(name, refresh_token="canary", **{**PORTAL, **account})
    return Ledger(runtime.redis, PREFIX, name, TIMERS)


@contextmanager
def served(exporter: Exporter) -> Iterator[str]:
    server = serve(exporter, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as response:
        return str(response.read().decode())


def values(text: str) -> dict[str, float]:
    """Return `name` or `name{label}` -> value."""
    return {
        sample.name.removeprefix("b24offline_")
        + "".join(f"{{{value}}}" for value in sample.labels.values()): sample.value
        for metric in text_string_to_metric_families(text)
        for sample in metric.samples
    }


def shown(runtime: Runtime, path: str = "/metrics", **options: float) -> dict[str, float]:
    with served(Exporter(runtime, fresh_seconds=0, **options)) as url:
        return values(page(url + path))


def test_promtool_finds_nothing_to_complain_of(runtime: Runtime) -> None:
    add(runtime, "acme")
    with served(Exporter(runtime)) as url:
        text = page(f"{url}/metrics")
    assert promtool("check", "metrics", stdin=text) == ""


def test_every_metric_is_there_and_none_besides(runtime: Runtime) -> None:
    ledger = add(runtime, "acme")
    runtime.redis.hincrby(keys.stats(ledger.stem), "requests:event.get:answered", 1)
    runtime.redis.hset(keys.stats(PREFIX), "read:tick", 1)
    with served(Exporter(runtime)) as url:
        found = {metric.name for metric in text_string_to_metric_families(page(f"{url}/metrics"))}
    assert found == {metric.full_name.removesuffix("_total") for metric in DEFINITIONS.values()}


def test_counts_and_ages_of_several_portals_are_added_up(runtime: Runtime) -> None:
    for name, count in (("acme", 3), ("initech", 2)):
        ledger = add(runtime, name)
        runs = opened(ledger, f"p{name}", *(entry_of(number) for number in range(1, count + 1)))
        ran(ledger, runs[0])
        ledger.succeed(runs[0].run, runs[0].attempt)
        opened(ledger, f"r{name}", entry_of(9, nacked=True), kind=BatchKind.RETRYING)
    pass_time(runtime.redis, ledger, 1000)
    found = shown(runtime)
    assert found["events_reserved_total"] == 7
    assert found["runs_ended_total{succeeded}"] == 2
    assert (found["batches{polled}"], found["batches{retrying}"], found["batches{synthetic}"]) == (2, 2, 0)
    assert found["runs{ready}"] == 5
    assert 1000 <= found["oldest_batch_seconds{retrying}"] < 1030
    assert 1000 <= found["oldest_reserved_seconds"] < 1030
    assert 1000 <= found["oldest_queued_step_seconds"] < 1030
    assert found["step_queue_seconds_count"] == 2
    alone = shown(runtime, "/metrics/portal?name=acme")
    assert (alone["events_reserved_total"], alone["batches{polled}"], alone["portals{run}{active}"]) == (4, 1, 1)
    assert alone["oldest_reserved_seconds"] < 30
    assert "ledger_used_bytes" not in alone


def test_what_was_reserved_long_ago_falls_into_its_bucket(runtime: Runtime) -> None:
    ledger = add(runtime, "acme")
    (run,) = opened(ledger, "p1", entry_of(1))
    ran(ledger, run)
    ledger.succeed(run.run, run.attempt)
    pass_time(runtime.redis, ledger, 45)
    settling = ledger.begin_settle("p1")
    assert not isinstance(settling, str)
    ledger.count_acknowledged(settling, 1, superseded=0)
    found = shown(runtime)
    assert (found["acknowledgement_seconds_bucket{30.0}"], found["acknowledgement_seconds_bucket{60.0}"]) == (0, 1)
    assert 45 <= found["acknowledgement_seconds_sum"] < 60
    assert found["events_settled_total{acknowledged}"] == 1
    assert len(BOUNDS_SECONDS) == sum(name.startswith("acknowledgement_seconds_bucket") for name in found) - 1


def test_a_removed_portal_stays_in_the_sums(runtime: Runtime) -> None:
    for name in ("acme", "initech"):
        opened(add(runtime, name), "p1", entry_of(1))
    assert shown(runtime)["events_reserved_total"] == 2
    runtime.store.portals.remove("acme")
    ledger = Ledger(runtime.redis, PREFIX, "acme", TIMERS)
    between = shown(runtime)
    ledger.erase()
    after = shown(runtime)
    assert between["events_reserved_total"] == after["events_reserved_total"] == 2
    assert (after["batches{polled}"], after["portals{run}{active}"]) == (1, 1)
    assert ledger.counters() == {}


def test_late_polls_and_waiting_messages_are_shown(runtime: Runtime) -> None:
    add(runtime, "acme")
    runtime.redis.zadd(keys.polls(PREFIX), {"acme": runtime.redis.time()[0] * 1000 - 90_000})
    queued = QueuedMessages(runtime.redis, PREFIX, 1.0)
    queued.begin("b24offline.poll", ["acme"])
    runtime.redis.hincrby(keys.queued(PREFIX), "b24offline.poll acme", -60_000)
    found = shown(runtime)
    assert 90 <= found["poll_late_seconds"] < 120
    assert (found["polls_late"], found["issues{not_polled}"], found["queued_messages{poll}"]) == (1, 1, 1)
    assert 60 <= found["oldest_queued_message_seconds{poll}"] < 90
    queued.take("b24offline.poll", "acme")
    found = shown(runtime)
    assert (found["queued_messages{poll}"], found["message_queue_seconds_count{poll}"]) == (0, 1)
    assert found["message_queue_seconds_sum{poll}"] >= 60


def test_a_ledger_that_is_gone_is_not_up_and_an_issue(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / "valkey") as server:
        runtime = Runtime(Config.load({"B24_REDIS_URL": server.url, "B24_DATA_DIR": str(tmp_path)}))
        add(runtime, "acme")
        before = shown(runtime)
    began = time.monotonic()
    after = shown(runtime, wait_seconds=2.0)
    assert time.monotonic() - began < 15
    assert (before["up{ledger}"], before["issues{ledger_unreachable}"]) == (1, 0)
    assert (after["up{ledger}"], after["up{store}"], after["issues{ledger_unreachable}"]) == (0, 1, 1)
    assert "runs_overdue" not in after
    runtime.close()


def test_a_store_that_hangs_leaves_the_ledger_shown(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    add(runtime, "acme")
    exporter, stop = Exporter(runtime, fresh_seconds=0, wait_seconds=0.3, stale_seconds=0.1), threading.Event()
    with served(exporter) as url:
        assert values(page(f"{url}/metrics"))["up{store}"] == 1
        monkeypatch.setattr(runtime.store.portals, "list", lambda **_: stop.wait(60))
        time.sleep(0.2)
        began = time.monotonic()
        found = values(page(f"{url}/metrics"))
        stop.set()
    assert time.monotonic() - began < 5
    assert (found["up{store}"], found["up{ledger}"]) == (0, 1)


def test_a_scrape_ends_in_time_though_nothing_answers(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, wait = threading.Event(), 1.0
    exporter = Exporter(runtime, fresh_seconds=0, wait_seconds=wait, stale_seconds=0)
    for part in (exporter._store, exporter._ledger, exporter._broker):
        monkeypatch.setattr(part, "_read", lambda: stop.wait(60))
    with served(exporter) as url:
        began = time.monotonic()
        found = values(page(f"{url}/metrics"))
        took = time.monotonic() - began
        stop.set()
    assert [found[f"up{{{part}}}"] for part in ("store", "ledger", "broker")] == [0, 0, 0]
    assert took < 2.5 * wait
    assert 2 * WAIT_SECONDS < 10, "that of Prometheus"


def test_health_is_told_though_nothing_can_be_read(tmp_path: Path) -> None:
    runtime = Runtime(
        Config.load({"B24_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0", "B24_DATA_DIR": str(tmp_path)})
    )
    with served(Exporter(runtime)) as url:
        assert page(f"{url}/healthz") == ""
    runtime.close()


@pytest.mark.parametrize("path", ["/", "/metrics/portal", "/metrics/portal?name=a&name=b", "/metrics/portal?name=typo"])
def test_another_path_and_an_unknown_portal_are_refused(runtime: Runtime, path: str) -> None:
    add(runtime, "acme")
    with served(Exporter(runtime)) as url, pytest.raises(urllib.error.HTTPError, match="404"):
        page(url + path)


def test_ten_thousand_portals_have_as_many_lines_as_one(runtime: Runtime) -> None:
    add(runtime, "acme")
    with served(Exporter(runtime)) as url:
        alone = page(f"{url}/metrics")
    engine, many = runtime.store.engine, 10_000
    with engine.begin() as connection:
        (row,) = connection.exec_driver_sql("select * from portals").mappings().all()
        names, marks = ",".join(row), ",".join("?" * len(row))
        rows = [
            tuple({**row, "name": f"portal{number}", "member_id": str(number)}.values()) for number in range(1, many)
        ]
        # The secrets of these rows are bound to another name: they cannot be opened, which is the costly case.
        connection.exec_driver_sql(f"insert into portals ({names}) values ({marks})", rows)
    with runtime.redis.pipeline(transaction=False) as pipe:
        for number in range(1, many):
            stem = keys.stem(PREFIX, f"portal{number}")
            pipe.hset(keys.stats(stem), mapping={"events_seen": 5, "requests:event.offline.get:answered": 7})
        pipe.execute()
    with served(Exporter(runtime, wait_seconds=240, stale_seconds=240)) as url:
        began = time.monotonic()
        text = page(f"{url}/metrics")
        seconds = time.monotonic() - began
        again = time.monotonic()
        assert page(f"{url}/metrics")
        cached = time.monotonic() - again
    found = values(text)
    print(f"{many} portals: {seconds:.1f} s, {len(text)} bytes, again {cached:.3f} s; one portal: {len(alone)} bytes")
    assert found["portals{run}{active}"] == many
    assert found["events_reserved_total"] == 5 * (many - 1)
    assert found["issues{wrong_key}"] == many - 1
    assert len(text) < len(alone) + 1000
    assert seconds < 60
    assert cached < seconds / 2, "it is not read without pause"
