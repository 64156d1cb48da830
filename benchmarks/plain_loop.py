"""``python -m benchmarks.plain_loop REST TOKEN``: handle events for ever, one after the other."""

from __future__ import annotations

import sys
import time
from http import HTTPStatus
from typing import Any

import requests

from benchmarks import steps

CONNECTOR = "plain-loop"
_IDLE_SECONDS = 0.2
_LIMIT_SECONDS = 0.5
"""In which a portal drains one request."""
_session = requests.Session()


def call(rest: str, token: str, method: str, fields: dict[str, Any]) -> Any:
    """Call one method of the portal, again after a wait while its limit is used up, and return its result."""
    while True:
        reply = _session.post(f"{rest}{method}.json", json={**fields, "auth": token}, timeout=60)
        if reply.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
            break
        time.sleep(_LIMIT_SECONDS)
    reply.raise_for_status()
    return reply.json()["result"]


def handle_batch(rest: str, token: str) -> int:
    """Reserve at most 50 events, handle and acknowledge them. Return how many there were."""
    batch = call(rest, token, "event.offline.get", {"clear": 0, "limit": 50, "auth_connector": CONNECTOR})
    events = batch["events"]
    for event in events:
        deal = call(rest, token, "crm.deal.get", {"id": event["EVENT_DATA"]["FIELDS"]["ID"]})
        steps.second(steps.first(deal))
    if events:
        ids = [event["ID"] for event in events]
        done = {"process_id": batch["process_id"], "id": ids, "auth_connector": CONNECTOR}
        call(rest, token, "event.offline.clear", done)
    return len(events)


if __name__ == "__main__":
    while True:
        if not handle_batch(*sys.argv[1:3]):
            time.sleep(_IDLE_SECONDS)
