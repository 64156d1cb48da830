"""Each portal with its health, read from the store and the ledger. Calls no portal."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from b24offline.errors import WrongKey
from b24offline.ledger import Ledger
from b24offline.monitoring.health import Issue, IssueCode, find_issues
from b24offline.monitoring.health_sample import take_sample

if TYPE_CHECKING:
    from redis import Redis

    from b24offline.config import Config
    from b24offline.events import Portal
    from b24offline.monitoring.health_sample import HealthSample
    from b24offline.store import Store


@dataclass(frozen=True, slots=True)
class PortalStatus:
    """One portal. ``sample`` None: the ledger cannot be reached, or the portal's secret cannot be opened."""

    portal: Portal
    dead_letters: int
    sample: HealthSample | None
    issues: tuple[Issue, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it for programs; no secret in it."""
        portal, sample = self.portal, self.sample
        return {
            "name": portal.name,
            "desired_state": portal.desired_state.value,
            "desired_state_since": portal.desired_since.isoformat(),
            "state": portal.state.value,
            "state_since": portal.state_since.isoformat(),
            "reason": portal.state_reason,
            "endpoint": portal.client_endpoint,
            "client_id": portal.client_id,
            "connector": portal.connector,
            "member_id": portal.member_id,
            "dead_letters": self.dead_letters,
            "ledger": None
            if sample is None
            else {
                "open_batches": sample.open_batches,
                "overdue_runs": sample.overdue_runs,
                "next_poll_seconds": sample.next_poll_seconds,
                "counters": sample.counters,
                "oldest_reserved_seconds": sample.oldest_reserved_seconds,
                "orphans": sample.orphans,
                "unreadable_records": sample.unreadable,
                "refused_events": list(sample.refused),
                "reconciled": asdict(sample.reconciled) if sample.reconciled else None,
            },
            "issues": [
                {"code": issue.code, "subject": issue.subject, "actor": issue.actor, "message": issue.message}
                for issue in self.issues
            ],
        }


def portal_statuses(store: Store, redis: Redis, config: Config, *, removed: bool = False) -> list[PortalStatus]:
    """Return all portals by name, with ``removed`` those that were removed too.

    A portal whose secret cannot be opened is among them, with that as its reason and its issue.
    """
    found = []
    for name in store.portals.names(removed=removed):
        try:
            portal = store.portals.get(name)
            store.tokens.get(name)  # raises WrongKey, as for a pair that somebody moved
            found.append(portal_status(store, redis, config, portal))
        except WrongKey as error:
            found.append(_unopened(store, name, str(error)))
    return found


def portal_status(store: Store, redis: Redis, config: Config, portal: Portal) -> PortalStatus:
    """Return one portal."""
    dead_letters = store.dead_letters.count(portal.name)
    sample = None
    with suppress(RedisError):
        ledger = Ledger(redis, config.redis_key_prefix, portal.name, config.timers)
        sample = take_sample(redis, ledger, config.redis_key_prefix)
    issues = find_issues(
        portal,
        sample,
        dead_letters,
        datetime.now(UTC),
        dead_letter_seconds=config.timers.dead_letter_after_seconds,
        adopts=config.claim_orphans,
    )
    return PortalStatus(portal, dead_letters, sample, issues)


def _unopened(store: Store, name: str, why: str) -> PortalStatus:
    portal = replace(store.portals.get_without_secret(name), state_reason=why)
    do = f"Or store its secrets again with this key: b24offline portal rotate-secret, then portal authorize {name}."
    issue = Issue(IssueCode.WRONG_KEY, "operator", f"{why} {do}")
    return PortalStatus(portal, store.dead_letters.count(name), None, (issue,))
