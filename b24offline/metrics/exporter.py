"""Collects the metrics of a deployment, or of one portal, from snapshots of its parts; serves them over HTTP."""

from __future__ import annotations

import logging
import time
from functools import partial
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import make_wsgi_app

from b24offline.metrics import families
from b24offline.metrics.part import Part
from b24offline.metrics.sources import LedgerFacts, read_broker, read_ledger, read_store
from b24offline.monitoring import StoredPortals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.core import Metric

    from b24offline.metrics.part import Snapshot
    from b24offline.runtime import Runtime

log = logging.getLogger(__name__)

FRESH_SECONDS: Final = 5.0
"""What is younger is not read again."""
WAIT_SECONDS: Final = 4.0
"""How long a scrape waits for the store, and then for ledger and broker: both together less than the usual 10 s."""
STALE_SECONDS: Final = 60.0
"""What is older is not shown while a reading lasts."""
_REQUEST_SECONDS: Final = 10.0


class Exporter:
    """The parts of one deployment; safe to be asked by several threads."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        fresh_seconds: float = FRESH_SECONDS,
        wait_seconds: float = WAIT_SECONDS,
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        self._runtime = runtime
        self._wait_seconds = wait_seconds
        self._names: dict[str, bool] = {}
        part = partial(Part[Any], fresh_seconds=fresh_seconds, stale_seconds=stale_seconds)
        self._store: Part[StoredPortals] = part("store", self._read_store)
        self._ledger: Part[LedgerFacts] = part("ledger", self._read_ledger)
        self._broker: Part[Any] = part("broker", lambda: read_broker(runtime.config))

    def collect(self, portal: str = "") -> Iterator[Metric]:
        """Yield all families; of one portal only what belongs to it."""
        found = self._parts() if portal else self._parts_and_broker()
        stored, ledger = found["store"], found["ledger"]
        facts: LedgerFacts | None = None if ledger is None else ledger.value
        facts = facts and facts.only(portal) if portal else facts
        yield from _of_parts(found)
        if stored:
            of = _only(stored.value, portal) if portal else stored.value
            yield from families.store_families(of, families.now_utc())
            yield families.issue_family(of, facts.samples if facts else {}, self._runtime.config)
        if facts:
            yield from families.ledger_families(facts)
            if not portal:
                yield from families.deployment_families(facts)
        if queues := found.get("broker"):
            yield from families.broker_families(queues.value)

    def knows(self, portal: str) -> bool:
        """Return whether there is such a portal, as far as the store could be read."""
        self._store.latest(self._wait_seconds)
        return portal in self._names

    def _parts(self) -> dict[str, Snapshot[Any] | None]:
        """Read the store first: it names the portals whose ledgers are read."""
        return {"store": self._store.latest(self._wait_seconds), "ledger": self._ledger.latest(self._wait_seconds)}

    def _parts_and_broker(self) -> dict[str, Snapshot[Any] | None]:
        self._broker.begin()
        began = time.monotonic()
        found = self._parts()
        left = max(0.0, began + 2 * self._wait_seconds - time.monotonic())
        return found | {"broker": self._broker.latest(min(left, self._wait_seconds))}

    def _read_store(self) -> StoredPortals:
        stored = read_store(self._runtime.store)
        self._names = {portal.name: portal.served for portal in stored.portals}
        return stored

    def _read_ledger(self) -> LedgerFacts:
        # While the store cannot be read, the portals that it named last are read.
        served = {name for name, is_served in self._names.items() if is_served}
        return read_ledger(self._runtime.redis, self._runtime.config.redis_key_prefix, list(self._names), served)


def _only(stored: StoredPortals, portal: str) -> StoredPortals:
    return StoredPortals([of for of in stored.portals if of.name == portal], stored.dead_letters, stored.unopened)


def _of_parts(found: dict[str, Snapshot[Any] | None]) -> Iterator[Metric]:
    now = time.monotonic()
    shown = {(name,): snapshot for name, snapshot in found.items() if snapshot}
    yield families.family("up", {(name,): int(snapshot is not None) for name, snapshot in found.items()})
    yield families.family("snapshot_age_seconds", {name: now - snapshot.at for name, snapshot in shown.items()})
    yield families.family("snapshot_duration_seconds", {name: snapshot.seconds for name, snapshot in shown.items()})


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = _REQUEST_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the library
        log.debug("scraped", extra={"request": format % args})


class _View:
    """What a registry collects: all of the deployment, or one portal."""

    def __init__(self, exporter: Exporter, portal: str) -> None:
        self._exporter, self._portal = exporter, portal

    def collect(self) -> Iterable[Metric]:
        return self._exporter.collect(self._portal)


def application(exporter: Exporter) -> Callable[..., Iterable[bytes]]:
    """Return the WSGI application: ``/metrics``, ``/metrics/portal?name=NAME``; ``/healthz``, which reads nothing."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        query = parse_qs(environ.get("QUERY_STRING", ""))
        names = query.get("name", [])
        path = environ.get("PATH_INFO", "")
        portal = names[0] if path == "/metrics/portal" and len(names) == 1 else ""
        if path == "/metrics" or (portal and exporter.knows(portal)):
            registry = CollectorRegistry(auto_describe=False)
            registry.register(_View(exporter, portal))
            page: Iterable[bytes] = make_wsgi_app(registry)(environ | {"QUERY_STRING": ""}, start_response)
            return page
        if path == "/healthz":
            start_response("200 OK", [("Content-Length", "0")])
            return []
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"There is /metrics, and for each portal /metrics/portal?name=NAME\n"]

    return answer


def serve(exporter: Exporter, address: str, port: int) -> WSGIServer:
    """Return a server that listens; ``serve_forever`` answers. Raises OSError where the port is taken."""
    return make_server(address, port, application(exporter), _Server, _Handler)
