"""The whole protocol in one process: an emulated portal, its network, the real ledger, and what looks at all of it.

The network executes calls now, late, twice or never, and loses answers. The evidence is the portal's history and the
journal of runs, in one order: both take their numbers from the portal's counter. The ledger is not asked.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, cast

from b24offline.config import Lane
from b24offline.delivery import DeadLetterQueue, Poller, Settler
from b24offline.emulator import Address, ApiError, Binding, Call, Clock, Params, invoke
from b24offline.emulator import Portal as EmulatedPortal
from b24offline.errors import BadRequest, QueryLimitExceeded, UnknownAnswer
from b24offline.events import Routes, shipped_catalogue
from b24offline.ledger import Fencing, Ledger, Orphans
from b24offline.rest import OfflineQueue
from tests.faults import evidence
from tests.faults.checker import Verdict, judge
from tests.support.core_events import PREFIX, TIMERS, FakeClient
from tests.support.courses import Course
from tests.support.deployment import SEED
from tests.support.portal_desk import CONNECTOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from b24offline.delivery import PortalContext
    from b24offline.emulator import StoredObject
    from b24offline.events import Event
    from b24offline.ledger import RunRef
    from b24offline.store import Store
    from tests.support.courses import TimedRedis

Fate = Literal["answered", "lost", "late", "dropped", "twice", "refused"]
"""Of a call: as it should be; executed, answer lost; executed later; never; executed again later; refused."""
LIFE_SECONDS = 170.0
"""A portal executes no request later than that after it was sent; less than an in-doubt window."""
OVERLAP_SECONDS = 60.0
"""So long may a reserving call take on the portal: it may hand out again what was reserved meanwhile."""
PIPELINES = {
    "ONCRMDEALADD": ("one", "other"),
    "ONCRMDEALUPDATE": ("one", "other"),
    "ONCRMDEALDELETE": ("one",),
}
LANE = Lane(name="default", batch_size=3)
EPOCH = 1_775_000_000.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A request on the network, and when it was sent."""

    method: str
    params: Mapping[str, Any]
    at: float

    def alive(self, now: float) -> bool:
        """Return whether the portal may still execute it."""
        return now - self.at <= LIFE_SECONDS


class Network(FakeClient):
    """Between the guarded client and the portal. Refuses nothing, but notes what must never be sent."""

    def __init__(self, portal: EmulatedPortal, redis: TimedRedis) -> None:
        self.flying: list[Sent] = []
        self.wrong: list[str] = []
        self.fates: Counter[str] = Counter()
        self._portal = portal
        self._redis = redis

    def send(self, method: str, params: dict[str, Any]) -> Any:
        """Send what the client sends. A course waits here, and is resumed with the fate of the call."""
        sent = Sent(method.rpartition(".")[2], params, self._redis.now)
        self._look(sent)
        course = Course.current()
        fate: Fate = "answered" if course is None else course.stop(sent) or "answered"
        self.fates[f"{sent.method} {fate}"] += 1
        name = self._portal.name
        if fate == "refused":
            raise QueryLimitExceeded(name, method, 503, "", "")
        if fate in {"late", "twice"} and sent.alive(self._redis.now):
            self.flying.append(sent)
        if fate in {"late", "dropped"} or not sent.alive(self._redis.now):
            raise UnknownAnswer(name, method, None, "", "lost")
        result = self.execute(sent)
        if fate == "lost":
            raise UnknownAnswer(name, method, None, "", "lost")
        return result

    def execute(self, sent: Sent, *, overlap: bool = False) -> Any:
        """Execute a call on the portal. ``overlap``: a reserving call that chose its rows when it was sent."""
        now = self._redis.now
        seconds = min(OVERLAP_SECONDS, now - sent.at + 0.001) if overlap else 0.0
        call = Call(self._portal, f"event.offline.{sent.method}", Params(sent.params), now, overlap_seconds=seconds)
        try:
            return invoke(call).result
        except ApiError as error:
            raise BadRequest(self._portal.name, sent.method, error.status, error.code, "") from error

    def _look(self, sent: Sent) -> None:
        """Invariants 2, 3 and 5, as far as one request shows them."""
        params = sent.params
        if params.get("auth_connector") != CONNECTOR:
            self.wrong.append(f"{sent.method} without its connector")
        if sent.method == "get" and params.get("clear") != 0:
            self.wrong.append("get without clear=0")
        if sent.method in {"clear", "error"} and not params.get("process_id"):
            self.wrong.append(f"{sent.method} without a process id")
        if sent.method == "clear" and not params.get("id"):
            self.wrong.append("clear without ids")
        if sent.method == "error":
            for record in self._portal.queue.batch(CONNECTOR, str(params.get("process_id"))):
                if record.nacked and record.message_id in params["message_id"]:
                    self.wrong.append(f"error for record {record.id}, which is nacked")


@dataclass
class Execution:
    """A handler at work; nobody knows whether its process will see the end of it."""

    handed: RunRef
    span: evidence.Span
    retrying: bool


@dataclass
class Journal:
    """What handlers did, numbered in one order with the portal's history."""

    portal: EmulatedPortal
    spans: dict[str, evidence.Span] = field(default_factory=dict)
    started: dict[tuple[evidence.Name, str], int] = field(default_factory=lambda: defaultdict(int))
    """Object and pipeline -> when the last completed run began."""

    def start(self, event: Event, handed: RunRef, *, retrying: bool) -> Execution:
        """Begin a handler, which reads the object."""
        assert event.object is not None
        name = (event.object.entity, event.object.object_id)
        seq = self.portal.sequence.take()
        span = evidence.Span(
            span=f"{seq}",
            name=name,
            delivery=event.delivery,
            pipeline=handed.pipeline,
            run=f"{handed.run}#{handed.attempt}#{seq}",
            last=True,
            start=seq,
            effect=seq,
            saw=seen(self.portal, name),
        )
        self.spans[span.span] = span
        return Execution(handed, span, retrying)

    def end(self, execution: Execution, *, ok: bool) -> None:
        """End a handler, well or by its own error."""
        span = execution.span
        self.spans[span.span] = replace(span, end=self.portal.sequence.take(), ok=ok)
        if ok:
            place = span.name, span.pipeline
            self.started[place] = max(self.started[place], int(span.start))


def seen(portal: EmulatedPortal, name: evidence.Name) -> str:
    """Return what a handler sees of an object."""
    found = portal.objects.get(*name)
    return evidence.GONE if found is None else str(found.revision)


class World:
    """One portal and one deployment, whose processes are courses."""

    def __init__(self, redis: TimedRedis, store: Store, name: str) -> None:
        self.redis, self.store, self.name = redis, store, name
        clock = Clock(0.0, ticks=lambda: redis.now)
        clock.advance(redis.now)
        self.portal = EmulatedPortal("acme", 1, Address("https://p.example/rest/", "p.example", ""), clock)
        for event in PIPELINES:
            self.portal.subscriptions.bind(Binding(event, offline=True, connector=CONNECTOR))
        self.network = Network(self.portal, redis)
        self.journal = Journal(self.portal)
        store.portals.seed(name, **SEED)
        routes = Routes()
        for pipeline in ("one", "other"):
            routes.add(lambda event: event, tuple(e for e, p in PIPELINES.items() if pipeline in p), pipeline)
        self.ledger = Ledger(redis, PREFIX, name, TIMERS, crash_budget=2)
        self.fencing = Fencing(redis, self.ledger, TIMERS, max_in_flight_batches=20)
        self.orphans = Orphans(redis, self.ledger, TIMERS)
        self.queue = OfflineQueue(self.network, name, CONNECTOR)
        context = SimpleNamespace(
            name=name,
            redis=redis,
            queue=self.queue,
            ledger=self.ledger,
            fencing=self.fencing,
            orphans=self.orphans,
            store=store,
            catalogue=shipped_catalogue(),
            routes=routes,
            config=SimpleNamespace(
                unrouted="ack",
                claim_orphans=True,
                redis_key_prefix="b24offline",
                max_in_flight_batches=20,
                all_lanes={"default": Lane(name="default")},
            ),
            timers=TIMERS,
        )
        portal = cast("PortalContext", context)
        self.poller, self.settler, self.dead_letter_queue = Poller(portal), Settler(portal), DeadLetterQueue(portal)

    # -- the portal ------------------------------------------------------------------------------------------

    def add(self) -> StoredObject:
        """Return a new deal."""
        return self.portal.add("crm_deal", {"TITLE": "x"})

    def drop_dead_calls(self) -> None:
        """Forget requests that the portal executes no more."""
        self.network.flying = [sent for sent in self.network.flying if sent.alive(self.redis.now)]

    # -- what must always hold -------------------------------------------------------------------------------

    def lost(self) -> Iterable[str]:
        """Yield changes that no record stands for, and after which no completed run began."""
        runtime = {record.message_id for record in self.portal.queue.records()}
        last = {
            row["message_id"]: row
            for row in self.portal.history.page(0, 1_000_000)
            if row["kind"] in {"queued", "restamped"}
        }
        for message, row in last.items():
            name = (row["entity"], row["object"])
            for pipeline in PIPELINES[row["event"]]:
                if message not in runtime and self.journal.started.get((name, pipeline), 0) < row["seq"]:
                    yield f"record {row['id']}: {row['event']} of {name}, no run of {pipeline} since"

    def verdict(self) -> Verdict:
        """Return what the checker of the fault rows says, with the portal's counter in the place of a clock."""
        history = [{**row, "wall": row["seq"]} for row in self.portal.history.page(0, 1_000_000)]
        changes = [{**row, "wall": row["seq"]} for row in self.portal.changes.page(0, 1_000_000)]
        found = evidence.Evidence(
            moments=evidence.moments(history),
            changes=evidence.changes(changes),
            spans=tuple(sorted(self.journal.spans.values(), key=lambda span: span.start)),
            pipelines=PIPELINES,
            objects={(row["entity"], row["id"]): seen(self.portal, (row["entity"], row["id"])) for row in changes},
        )
        return judge(found)
