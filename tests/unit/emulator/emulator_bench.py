"""A portal with a clock that stands still until it is moved, and calls of its methods."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from b24offline.emulator.api.params import Params
from b24offline.emulator.api.request import Outcome, RestRequest, execute
from b24offline.emulator.server.site import Site
from b24offline.emulator.state import Address, Clock, Portal

START = 1_800_000_000.0
DAY = 24 * 3600
GET, LIST, CLEAR, ERROR = (f"event.offline.{name}" for name in ("get", "list", "clear", "error"))


@dataclass
class PortalBench:
    """A portal, and calls of its methods with a valid token."""

    site: Site

    @property
    def portal(self) -> Portal:
        return self.site.portal

    @classmethod
    def new(cls, *bound: str, connectors: tuple[str, ...] = ("crm",), objects: int = 0) -> PortalBench:
        address = Address("http://127.0.0.1:1/rest/", "127.0.0.1:1", "http://127.0.0.1:1/oauth/token/")
        portal = Portal("p", 7, address, Clock(start=START, ticks=lambda: 0.0))
        portal.bucket.off = True
        portal.seed_objects(objects)
        bench = cls(Site(portal, 7))
        for event in bound:
            for connector in connectors:
                bench.ok("event.bind", event=event, event_type="offline", auth_connector=connector)
        return bench

    def call(self, method: str, **params: Any) -> Outcome:
        token = self.portal.tokens.issue_access(self.portal.clock.now())
        return execute(self.portal, RestRequest(method, Params(params), token), self.site.faults.command_error)

    def ok(self, method: str, **params: Any) -> Any:
        outcome = self.call(method, **params)
        assert outcome.status == 200, outcome
        return outcome.body["result"]

    def refused(self, method: str, **params: Any) -> tuple[int, Any]:
        outcome = self.call(method, **params)
        assert "error" in outcome.body, outcome
        return outcome.status, outcome.body["error"]

    def deals(self, number: int) -> list[str]:
        """Make deals; their ids."""
        return [self.portal.add("crm_deal").id for _ in range(number)]

    def touch(self, deal: str, connector: str = "") -> None:
        """Change a deal."""
        found = self.portal.objects.get("crm_deal", deal)
        assert found is not None
        self.portal.update(found, connector=connector)

    def wait(self, seconds: float) -> None:
        self.portal.clock.advance(seconds)

    def reserve(self, **params: Any) -> tuple[str, list[dict[str, Any]]]:
        answer = self.ok("event.offline.get", **{"clear": 0, "auth_connector": "crm", **params})
        return answer["process_id"], answer["events"]

    def rows(self, connector: str = "crm", **filters: Any) -> list[dict[str, Any]]:
        """Return all rows of `event.offline.list`."""
        return list(self.ok("event.offline.list", auth_connector=connector, filter=filters))

    def ids(self, connector: str = "crm") -> list[str]:
        return [row["ID"] for row in self.rows(connector)]


def messages(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return the message ids of rows."""
    return [row["MESSAGE_ID"] for row in rows]
