"""Which pipelines run for which event. Pipelines register with `@route`.

A pipeline is a function that takes an `Event` and returns a chain of steps. Its name is part of every run, of the
idempotency key and of the ledger, so the waiting runs of a renamed pipeline fail as unknown.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar

from b24offline.errors import ConfigError
from b24offline.events.catalogue import LISTED_ENTITIES, shipped_catalogue
from b24offline.events.retry import RetryRules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from b24offline.events.catalogue import Catalogue
    from b24offline.events.event import Event

P = TypeVar("P", bound="Callable[[Event], object]")

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_TYPED: Final = re.compile(r"(.+)_[1-9][0-9]*")
LARGEST_CHUNK: Final = 500
"""The most events of a bulk pipeline that one call of its step works on."""
NO_RULES: Final = RetryRules()
"""The rules of a pipeline or step that sets none."""


def routed_as(event_name: str) -> tuple[str, ...]:
    """Return the names of an event in routes, its own first; that of all smart processes covers `..._147` too."""
    typed = _TYPED.fullmatch(event_name)
    return (event_name, typed[1]) if typed else (event_name,)


class Routes:
    """Event name -> pipelines. Filled at import, read-only afterwards."""

    def __init__(self) -> None:
        self._by_event: dict[str, list[str]] = {}
        self._pipelines: dict[str, Callable[[Event], object]] = {}
        self._rules: dict[str, RetryRules] = {}
        self._mirrors: dict[str, frozenset[str]] = {}
        self._fused: set[str] = set()
        self._bulk: dict[str, int] = {}

    def add(
        self,
        pipeline: Callable[[Event], object],
        events: tuple[str, ...],
        name: str,
        rules: RetryRules = NO_RULES,
        mirrors: Iterable[str] = (),
        *,
        fused: bool = False,
        bulk: int | None = None,
    ) -> None:
        """Add a pipeline. ``mirrors``: the entities whose objects it writes into the mirror; ``bulk``: see `route`.

        ``fused``: whether its steps run in one message, as far as they can.

        Raise `ConfigError` for a name that is taken, no events, an event named twice, an entity that cannot be
        compared with the mirror, or a meaningless size of chunks.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(f"pipeline name {name!r} must be 1 to 64 letters, digits, '_', '.' or '-'")
        if name in self._pipelines:
            places = " and ".join(_place(each) for each in (self._pipelines[name], pipeline))
            raise ConfigError(f"two pipelines are called {name!r}, in {places}: give one @route(..., name='...')")
        wanted = [event.strip().upper() for event in events]
        if not wanted or "" in wanted:
            raise ConfigError(f"pipeline {name!r} names no event: @route('ONCRMDEALADD')")
        if len(set(wanted)) != len(wanted):
            raise ConfigError(f"pipeline {name!r} names an event twice")
        mirrored = frozenset(mirrors)
        _refuse_incomparable(name, wanted, mirrored)
        if bulk is not None and fused:
            raise ConfigError(f"pipeline {name!r} is bulk, so it has one step and nothing to fuse")
        if bulk is not None:
            self._bulk[name] = _size_of_chunks(name, bulk)
        self._pipelines[name] = pipeline
        self._mirrors[name] = mirrored
        self._rules[name] = rules
        if fused:
            self._fused.add(name)
        for event in wanted:
            self._by_event.setdefault(event, []).append(name)

    def pipelines_for(self, event_name: str) -> tuple[str, ...]:
        """Return the pipelines of an event; those of a single smart process (`..._147`) replace those for all."""
        return next((tuple(self._by_event[name]) for name in routed_as(event_name) if name in self._by_event), ())

    def pipeline(self, name: str) -> Callable[[Event], object] | None:
        """Return the pipeline of a name, None when it is not loaded."""
        return self._pipelines.get(name)

    def retry_rules(self, name: str) -> RetryRules:
        """Return the retry rules of a pipeline; no rules for one that is not loaded."""
        return self._rules.get(name, NO_RULES)

    def is_fused(self, name: str) -> bool:
        """Return whether the steps of a pipeline run in one message."""
        return name in self._fused

    def bulk(self, name: str) -> int | None:
        """Return how many events one call of a bulk pipeline's step works on, at most; None for another pipeline."""
        return self._bulk.get(name)

    def mirrors(self, event_name: str, entity: str) -> bool:
        """Return whether an event runs a pipeline that mirrors objects of this entity."""
        return any(entity in self._mirrors[name] for name in self.pipelines_for(event_name))

    @property
    def mirrored_entities(self) -> frozenset[str]:
        """The entities that some pipeline mirrors."""
        return frozenset().union(*self._mirrors.values())

    @property
    def event_names(self) -> tuple[str, ...]:
        """All events that have a route, sorted."""
        return tuple(sorted(self._by_event))


def unrouted_deletions(found: Routes, catalogue: Catalogue) -> tuple[str, ...]:
    """Return the delete events without a route of entities that a pipeline mirrors: deleted objects would stay."""
    mirrored = found.mirrored_entities
    names = (
        kind.name.partition("_{")[0] for kind in catalogue.kinds if kind.action == "delete" and kind.entity in mirrored
    )
    return tuple(sorted({name for name in names if not found.pipelines_for(name)}))


def _place(pipeline: Callable[[Event], object]) -> str:
    return str(getattr(pipeline, "__module__", "?"))


def _size_of_chunks(name: str, bulk: object) -> int:
    if not isinstance(bulk, int) or isinstance(bulk, bool) or not 2 <= bulk <= LARGEST_CHUNK:
        raise ConfigError(f"pipeline {name!r}: bulk must be a whole number from 2 to {LARGEST_CHUNK}, not {bulk!r}")
    return bulk


def _refuse_incomparable(name: str, events: Iterable[str], mirrors: frozenset[str]) -> None:
    """Raise `ConfigError` when reconciliation could not compare what a pipeline mirrors."""
    if unlisted := mirrors - LISTED_ENTITIES:
        raise ConfigError(
            f"pipeline {name!r} mirrors {', '.join(map(repr, sorted(unlisted)))}, which cannot be compared: the portal "
            f"lists by date of change {', '.join(sorted(LISTED_ENTITIES))}"
        )
    kinds = (shipped_catalogue().lookup(event) for event in events)
    if foreign := mirrors - {kind.entity for kind in kinds if kind}:
        raise ConfigError(f"pipeline {name!r} mirrors {', '.join(sorted(foreign))}, and none of its events is of these")


routes: Final = Routes()
"""The routes of this process, filled by `@route` while the modules of `B24_PIPELINES` are imported."""


def route(
    *events: str,
    name: str | None = None,
    mirrors: str | Iterable[str] = (),
    fused: bool = False,
    bulk: int | None = None,
    attempts: int | None = None,
    backoff: float | Iterable[float] | None = None,
    final: type[Exception] | Iterable[type[Exception]] | None = None,
) -> Callable[[P], P]:
    """Register a pipeline for event names. ``name`` defaults to the function's; it must be unique.

    ``mirrors`` names the entities whose objects the pipeline writes into the mirror: reconciliation compares these.
    ``fused``: run its steps one after the other in one message, with an outcome and retries for each as ever; where a
    step needs a queue, a wait or a time limit of its own, it comes by message.
    ``bulk`` makes it a bulk pipeline: it returns one bulk step, which receives up to so many events at once.
    ``attempts``, ``backoff`` (seconds) and ``final`` hold for all steps of the pipeline that do not say otherwise; see
    `RetryRules`. Raise `ConfigError` when any of it is wrong.
    """

    def register(pipeline: P) -> P:
        called = name or str(getattr(pipeline, "__name__", ""))
        rules = RetryRules.checked(f"pipeline {called!r}", attempts=attempts, backoff=backoff, final=final)
        entities = (mirrors,) if isinstance(mirrors, str) else mirrors
        routes.add(pipeline, events, called, rules, entities, fused=fused, bulk=bulk)
        return pipeline

    return register
