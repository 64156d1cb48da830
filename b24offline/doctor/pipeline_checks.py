"""The pipelines: whether they can be imported, what they build, and whether their events exist."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from b24offline.config import import_pipelines
from b24offline.contract import QUEUE_EVENTS
from b24offline.doctor.check import Check, counted, failed, ok, warning
from b24offline.errors import ConfigError
from b24offline.events import Record, event_from_record, unrouted_deletions
from b24offline.ledger import RunRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from b24offline.config import Config
    from b24offline.events import Catalogue, EventKind, Routes

_STAMP: Final = "2026-01-01T00:00:00+00:00"
_STEP: Final = re.compile(r"([^.\[\]]+)|\[([0-9]+)\]")


def pipeline_checks(config: Config, routes: Routes, catalogue: Catalogue) -> Iterator[Check]:
    """Import the modules, then yield the checks of events and chains."""
    try:
        import_pipelines(config.pipelines)
    except (ConfigError, SystemExit) as error:
        yield failed("pipelines", str(error), "Correct the module, or B24_PIPELINES.")
        return
    names = routes.event_names
    if not names:
        modules = ", ".join(config.pipelines)
        yield failed("pipelines", f"{modules} routes no event.", "Add @route(...), or correct B24_PIPELINES.")
        return
    yield ok("pipelines", f"{', '.join(config.pipelines)} can be imported; routes for {counted(len(names), 'event')}.")
    yield _events(names, config.events, routes, catalogue)
    yield from _shapes(routes, catalogue)


def _events(names: Iterable[str], chosen: Iterable[str], routes: Routes, catalogue: Catalogue) -> Check:
    unknown = [name for name in names if catalogue.lookup(name) is None and not _is_template(name, catalogue)]
    online = [name for name in names if (kind := catalogue.lookup(name)) and kind.offline == "no"]
    unrouted = [name for name in chosen if not routes.pipelines_for(name)]
    remedy = "Correct the names: b24offline events lists those that exist."
    if online:
        return failed("events", f"Portals never queue {', '.join(online)}.", remedy)
    if unknown:
        return warning("events", f"Unknown to the catalogue: {', '.join(unknown)}.", remedy)
    if deletions := unrouted_deletions(routes, catalogue):
        what = f"These delete events of mirrored objects have no route: {', '.join(deletions)}."
        return warning("events", what, "Route them too, or deleted objects stay in the mirror for ever.")
    if unrouted:
        what = f"B24_EVENTS names events without a route: {', '.join(unrouted)}."
        return warning(
            "events", what, "Load their pipelines, or remove them there: such events wait on the portal, nacked."
        )
    return ok("events", "All events of the routes are known.")


def _is_template(name: str, catalogue: Catalogue) -> bool:
    return catalogue.lookup(f"{name}_1") is not None


def _shapes(routes: Routes, catalogue: Catalogue) -> Iterator[Check]:
    """Yield a check for each pipeline that builds no chain, or one for all."""
    from b24offline.tasks import chain_of  # noqa: PLC0415 - only this check needs Celery

    wrong = 0
    built: set[str] = set()
    for name in routes.event_names:
        kind = catalogue.lookup(name) or catalogue.lookup(f"{name}_1")
        event = event_from_record("doctor", _record(name, kind), catalogue)
        for pipeline in routes.pipelines_for(name):
            built.add(pipeline)
            try:
                chain_of(RunRef(f"{event.delivery}/{pipeline}", 1), event, QUEUE_EVENTS)
            except ConfigError as error:
                wrong += 1
                yield failed("pipeline", f"{error}.", "Correct the pipeline.")
            except Exception as error:  # noqa: BLE001 - a pipeline is a user's code
                wrong += 1
                yield warning(
                    "pipeline",
                    f"{pipeline} raised {type(error).__name__} for a sample {name}.",
                    "Harmless if it needs data that only real events have; else correct it.",
                )
    if not wrong:
        yield ok("pipeline", f"{counted(len(built), 'pipeline')} built a chain for each sample event.")


def _record(name: str, kind: EventKind | None) -> Record:
    """Return a record as a portal would send it, with 1 for each id."""
    data: Any = {}
    for path in kind.id_path.split("+") if kind and kind.id_path else ():
        data = _with(data, _STEP.findall(path)) if path != "." else "1"
    return Record(
        record_id=1,
        timestamp=datetime.fromisoformat(_STAMP),
        stamp=_STAMP,
        name=name,
        data=data,
        additional={"user_id": "1"},
        message_id="0" * 32,
    )


def _with(data: Any, steps: list[tuple[str, str]]) -> Any:
    if not steps:
        return "1"
    (key, index), *rest = steps
    if index:
        return [_with({}, rest)]
    found = dict(data) if isinstance(data, dict) else {}
    return {**found, key: _with(found.get(key, {}), rest)}
