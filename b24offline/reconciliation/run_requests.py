"""Runs the objects that commands asked for, without an event of the portal."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from redis.exceptions import LockError

from b24offline.events import ObjectKey
from b24offline.ledger import RUN, SYNTHETIC_PREFIX
from b24offline.reconciliation.synthetic import SyntheticBatches, described, event_fits, update_events

if TYPE_CHECKING:
    from collections.abc import Callable

    from b24offline.delivery import PortalContext
    from b24offline.ledger import Body

log = logging.getLogger(__name__)


class RunRequests:
    """Answers the requests of one portal to run an object.

    ``dispatch`` is called with the id of each batch that is opened.
    """

    def __init__(self, portal: PortalContext, dispatch: Callable[[str], object]) -> None:
        self._portal = portal.name
        self._ledger = portal.ledger
        self._requests = portal.requests
        self._synthetic = SyntheticBatches(portal)
        self._catalogue = portal.catalogue
        self._routes = portal.routes
        self._dispatch = dispatch
        self._lease_seconds = portal.timers.settle_lease_seconds

    def answer_due(self) -> int | None:
        """Answer all requests that are due. Return how many objects are run; None while another worker is at it."""
        lease = self._requests.lease(RUN, self._lease_seconds)
        if not lease.acquire():
            return None
        started = 0
        try:
            for number, body in self._requests.due(RUN).items():
                lease.reacquire()
                reply = self._run(number, body)
                self._requests.complete(number, reply)
                started += reply["state"] == "done"
            lease.release()
        except LockError:
            log.warning(
                "objects run on request: lease lost, the next sweep continues",
                extra={"portal": self._portal},
            )
        return started

    def _run(self, number: str, body: Body) -> dict[str, Any]:
        key = ObjectKey(self._portal, str(body["entity"]), str(body["object_id"]))
        usual = next(update_events(key.entity, key.object_id, self._catalogue, self._routes), "")
        name = str(body["event"] or usual).upper()
        if not name:
            return _refused(f"no update event of {key.entity!r} has a route for such an id: name one with --event")
        if not event_fits(name, key.object_id, key.entity, self._catalogue):
            return _refused(f"{name} is not an event of {key}")
        pipelines = self._routes.pipelines_for(name)
        wanted = str(body["pipeline"])
        if wanted:
            pipelines = tuple(pipeline for pipeline in pipelines if pipeline == wanted)
        if not pipelines:
            return _refused(f"{name} has no route to {wanted or 'a pipeline'}; check B24_PIPELINES")
        process_id = self._synthetic.open(number, [(name, key, str(body["stamp"]), pipelines)])
        if process_id is not None:
            self._dispatch(process_id)
        events = list(self._ledger.events(f"{SYNTHETIC_PREFIX}{number}").values())
        reply = described(events[0]) if events else {"event": name, "object": str(key), "record_id": 0}
        return {"state": "done", "pipelines": list(pipelines), **reply}


def _refused(why: str) -> dict[str, Any]:
    return {"state": "refused", "why": why}
