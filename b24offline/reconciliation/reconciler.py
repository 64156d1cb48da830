"""Finds changes whose events never came: compares what the portal lists with what the mirror knows.

One `Job` is one reconciliation. It advances in small steps, each of which leaves the job in a state that another worker
continues from; what a step decides is written down before it is done. Drawn in `docs/reconciliation.md`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, Self

from b24offline.errors import (
    AccessDenied,
    BadRequest,
    InsufficientScope,
    MethodNotFound,
    NotAdministrator,
    RefusedByMethod,
)
from b24offline.events import MalformedRecord, ObjectKey, Record, event_from_record
from b24offline.reconciliation.synthetic import SyntheticBatches, update_events
from b24offline.rest import LIST_PAGE, METHODS, ObjectLister

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from b24offline.delivery import PortalContext
    from b24offline.errors import PortalError
    from b24offline.rest import Listed
    from b24offline.store import Mirror

NOT_LISTED: Final = "the portal cannot list these by date of change"
NOT_MIRRORED: Final = "no route mirrors it"
NO_UPDATE: Final = "its update event runs no pipeline that mirrors it"
BACKLOG: Final = "too many records wait in the queue, try again later"
MANY: Final = 2000
"""Free records that are looked at before an object counts as gone."""
SHOWN: Final = 200
"""Objects named in an answer; all are counted."""
REFUSALS: Final = (AccessDenied, BadRequest, InsufficientScope, MethodNotFound, RefusedByMethod)
"""Errors that concern one list method, not the portal, where `_whole_portal` does not say otherwise."""

Part = list[str]
"""What is looked at in one go: entity, entity type ("" where there is none), "changed" or "gone"."""


@dataclass(slots=True)
class Job:
    """One reconciliation and how far it has got; times in milliseconds of the ledger's clock.

    Attributes:
        why: "daily", "by hand" or what made it necessary.
        since_ms: objects that changed before are not looked at.
        until_ms: neither are those that changed later: their events may still be under way. 0 before it began.
        deleted: whether to look for objects that the portal has no more.
        dry_run: only say what was missed.
        todo: parts that are left; the first is under way.
        after: where in the first part the next page begins.
        pending: entity, id and stamp of missed objects that are to be run before anything else is done.
        batches: synthetic batches opened so far.
        compared, fresh, in_work, missed, gone: objects looked at; changed after ``until_ms``; whose record is reserved,
            nacked or in a synthetic batch; found missing or older in the mirror; in the mirror only.
        by_entity: missed and gone ones, counted.
        not_comparable: entity -> why.
        found: the first missed objects, "crm_deal 871".
    """

    why: str
    since_ms: int
    deleted: bool = False
    dry_run: bool = False
    until_ms: int = 0
    todo: list[Part] = field(default_factory=list)
    after: str = ""
    pending: list[list[str]] = field(default_factory=list)
    batches: int = 0
    compared: int = 0
    fresh: int = 0
    in_work: int = 0
    missed: int = 0
    gone: int = 0
    by_entity: dict[str, int] = field(default_factory=dict)
    not_comparable: dict[str, str] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """Return the job in a request."""
        return cls(**{name: body[name] for name in cls.__slots__ if name in body})

    def body(self) -> dict[str, Any]:
        """For the request that carries it."""
        return asdict(self)

    @property
    def done(self) -> bool:
        """Whether everything was looked at and run."""
        return self.until_ms > 0 and not self.todo and not self.pending


def missed(listed: Iterable[Listed], known: Mapping[str, datetime], until: datetime) -> tuple[list[Listed], int]:
    """Return listed objects that changed until then and that the mirror lacks or has older; and how many are later.

    An object whose date cannot be read counts as missed only when the mirror lacks it. Pure.
    """
    lacking, fresh = [], 0
    for row in listed:
        moment, mirrored = row.changed_at, known.get(row.object_id)
        if moment is not None and moment > until:
            fresh += 1
        elif mirrored is None or (moment is not None and moment > mirrored):
            lacking.append(row)
    return lacking, fresh


class Reconciler:
    """Does the steps of jobs of one portal. ``grace_seconds``: how long an event may take from change to run."""

    def __init__(self, portal: PortalContext, mirror: Mirror, grace_seconds: float) -> None:
        self._portal = portal.name
        self._lister = ObjectLister(portal.client, portal.name)
        self._queue = portal.queue
        self._ledger = portal.ledger
        self._mirror = mirror
        self._synthetic = SyntheticBatches(portal)
        self._catalogue = portal.catalogue
        self._routes = portal.routes
        self._grace_ms = round(grace_seconds * 1000)
        self._in_work: set[ObjectKey] | None = None

    def begin(self, job: Job) -> None:
        """Decide what to look at: the entities that a route mirrors.

        What changed in the last minutes, or since the oldest record that waits in the queue, is left to the queue.
        """
        oldest = self._queue.oldest_free()
        now = self._ledger.now_ms()
        until_ms = max(1, (now if oldest is None else min(now, _ms(oldest))) - self._grace_ms)
        mirrored = self._routes.mirrored_entities
        events = (self._catalogue.lookup(name) for name in self._routes.event_names)
        todo: list[Part] = []
        not_comparable: dict[str, str] = {}
        for entity in sorted({kind.entity for kind in events if kind is not None and kind.id_path}):
            why = NOT_LISTED if entity not in METHODS else "" if entity in mirrored else NOT_MIRRORED
            look = not why and job.since_ms < until_ms
            types: tuple[str, ...] = ()
            try:
                types = self._types(entity) if look else ()
            except REFUSALS as error:
                if _whole_portal(error):
                    raise
                why = _refused(error)
            if why or (look and not types):
                not_comparable[entity] = why or NO_UPDATE
            todo += [[entity, type_id, "changed"] for type_id in types]
            todo += [[entity, type_id, "gone"] for type_id in types if job.deleted]
        # Last, because a job that says until when has begun: one whose calls failed above begins anew.
        job.until_ms, job.todo, job.not_comparable = until_ms, todo, not_comparable

    def step(self, job: Job) -> None:
        """Look at one page of the first part, and note what was missed as pending."""
        entity, type_id, what = job.todo[0]
        try:
            (self._changed if what == "changed" else self._gone)(job, entity, type_id)
        except REFUSALS as error:
            if _whole_portal(error):
                raise
            job.not_comparable[_label(entity, type_id)] = _refused(error)
            job.todo.pop(0)
            job.after = ""

    def run_pending(self, job: Job, number: str) -> str | None:
        """Open a synthetic batch of what is pending. Return its process id to dispatch; None when opened before."""
        rows = []
        for entity, object_id, stamp in job.pending:
            name = self._event(entity, object_id)
            if name is not None:
                rows.append((name, ObjectKey(self._portal, entity, object_id), stamp, self._routes.pipelines_for(name)))
        opened = self._synthetic.open(f"{number}-{job.batches}", rows) if rows else None
        job.pending = []
        job.batches += 1
        return opened

    def _types(self, entity: str) -> tuple[str, ...]:
        if not METHODS[entity].types:
            return ("",) if self._event(entity, "1") else ()
        return tuple(type_id for type_id in self._lister.type_ids() if self._event(entity, f"{type_id}:1"))

    def _event(self, entity: str, object_id: str) -> str | None:
        """Return the event that runs an object again; None where that would not mirror it."""
        name = next(update_events(entity, object_id, self._catalogue, self._routes), None)
        return name if name and self._routes.mirrors(name, entity) else None

    def _changed(self, job: Job, entity: str, type_id: str) -> None:
        page = self._lister.changed(entity, type_id, job.since_ms, int(job.after or 0))
        until = datetime.fromtimestamp(job.until_ms / 1000, UTC)
        ids = [row.object_id for row in page.rows]
        lacking, fresh = missed(page.rows, self._mirror.stamps(self._portal, entity, ids), until)
        if lacking:
            # First who is at work, then the mirror once more: a run that ends in between has written it by then.
            rest, busy = self._not_in_work(entity, [row.object_id for row in lacking])
            again, _ = missed(lacking, self._mirror.stamps(self._portal, entity, rest), until)
            lacking = [row for row in again if row.object_id in rest]
            job.in_work += busy
        job.compared += len(page.rows)
        job.fresh += fresh
        job.missed += len(lacking)
        began = datetime.fromtimestamp(job.until_ms / 1000, UTC)
        self._note(job, entity, [(row.object_id, (row.changed_at or began).isoformat()) for row in lacking])
        self._advance(job, str(page.after) if page.after else "")

    def _gone(self, job: Job, entity: str, type_id: str) -> None:
        prefix = f"{type_id}:" if type_id else ""
        ids = self._mirror.living(self._portal, entity, after=job.after, limit=LIST_PAGE, prefix=prefix)
        there = self._lister.present(entity, type_id, ids) if ids else set()
        lacking, busy = self._not_in_work(entity, [object_id for object_id in ids if object_id not in there])
        waiting = self._waiting() if lacking else set()
        if waiting is None:
            job.not_comparable[f"{_label(entity, type_id)}, deleted ones"] = BACKLOG
            self._advance(job, "")
            return
        if lacking:
            lacking = [gone for gone in lacking if ObjectKey(self._portal, entity, gone) not in waiting]
            still = self._mirror.stamps(self._portal, entity, lacking)
            lacking = [gone for gone in lacking if gone in still]
        job.compared += len(ids)
        job.in_work += busy
        job.gone += len(lacking)
        stamp = datetime.fromtimestamp(job.until_ms / 1000, UTC).isoformat()
        self._note(job, entity, [(gone, stamp) for gone in lacking])
        self._advance(job, ids[-1] if len(ids) == LIST_PAGE else "")

    def _note(self, job: Job, entity: str, rows: list[tuple[str, str]]) -> None:
        if rows:
            job.by_entity[entity] = job.by_entity.get(entity, 0) + len(rows)
        job.found += [f"{entity} {object_id}" for object_id, _ in rows[: max(0, SHOWN - len(job.found))]]
        if not job.dry_run:
            job.pending += [[entity, object_id, stamp] for object_id, stamp in rows]

    @staticmethod
    def _advance(job: Job, after: str) -> None:
        job.after = after
        if not after:
            job.todo.pop(0)

    def _not_in_work(self, entity: str, object_ids: list[str]) -> tuple[list[str], int]:
        """Return those without a record that is reserved or nacked and without a synthetic batch; how many the others
        are."""
        if not object_ids:
            return [], 0
        if self._in_work is None:
            rows = chain(self._queue.reserved(), self._queue.nacked())
            self._in_work = self._synthetic.objects() | self._objects(rows)
        rest = [known for known in object_ids if ObjectKey(self._portal, entity, known) not in self._in_work]
        return rest, len(object_ids) - len(rest)

    def _waiting(self) -> set[ObjectKey] | None:
        """Return the objects of free records; None when there are so many that looking at all would take too long."""
        rows = list(islice(self._queue.free(), MANY))
        return None if len(rows) == MANY else self._objects(rows)

    def _objects(self, rows: Iterable[Record | MalformedRecord]) -> set[ObjectKey]:
        events = (event_from_record(self._portal, row, self._catalogue) for row in rows if isinstance(row, Record))
        return {event.object for event in events if event.object}


def _whole_portal(error: PortalError) -> bool:
    """Return whether a refusal is of the application or of the queue: no part can be looked at then."""
    return isinstance(error, NotAdministrator) or error.method.startswith("event.")


def _refused(error: PortalError) -> str:
    return f"{type(error).__name__} of the list method"


def _label(entity: str, type_id: str) -> str:
    return f"{entity} {type_id}" if type_id else entity


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
