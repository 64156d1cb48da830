"""Each portal with its health, read from the store and the ledger. Calls no portal."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from b24offline.monitoring.health import Issue, IssueCode, find_issues
from b24offline.monitoring.health_sample import take_samples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
    portals = [portal for portal in store.portals.list(secret=False) if removed or portal.served]
    samples: Mapping[str, HealthSample] = {}
    with suppress(RedisError):
        samples = take_samples(redis, config.redis_key_prefix, [portal.name for portal in portals]).portals
    return statuses_of(StoredPortals(portals, store.dead_letters.counts(), store.portals.unopened()), samples, config)


def portal_status(store: Store, redis: Redis, config: Config, portal: Portal) -> PortalStatus:
    """Return one portal."""
    samples: Mapping[str, HealthSample] = {}
    with suppress(RedisError):
        samples = take_samples(redis, config.redis_key_prefix, [portal.name]).portals
    dead_letters = {portal.name: store.dead_letters.count(portal.name)}
    return statuses_of(StoredPortals([portal], dead_letters, {}), samples, config)[0]


@dataclass(frozen=True, slots=True)
class StoredPortals:
    """What the store knows. ``dead_letters``: portal -> how many are open; ``unopened``: portal -> why its secrets
    cannot be opened."""

    portals: Sequence[Portal]
    dead_letters: Mapping[str, int]
    unopened: Mapping[str, str]


def statuses_of(stored: StoredPortals, samples: Mapping[str, HealthSample], config: Config) -> list[PortalStatus]:
    """Return the portals with their issues. ``samples``: of the portals whose ledger can be reached."""
    now, found = datetime.now(UTC), []
    for portal in stored.portals:
        dead_letters, sample = stored.dead_letters.get(portal.name, 0), samples.get(portal.name)
        if why := stored.unopened.get(portal.name):
            found.append(_unopened(portal, dead_letters, why))
            continue
        issues = find_issues(
            portal,
            sample,
            dead_letters,
            now,
            dead_letter_seconds=config.timers.dead_letter_after_seconds,
            adopts=config.claim_orphans,
        )
        found.append(PortalStatus(portal, dead_letters, sample, issues))
    return found


def _unopened(portal: Portal, dead_letters: int, why: str) -> PortalStatus:
    do = "Or store its secrets again with this key: b24offline portal rotate-secret, then portal authorize"
    issue = Issue(IssueCode.WRONG_KEY, "operator", f"{why} {do} {portal.name}.")
    return PortalStatus(replace(portal, state_reason=why), dead_letters, None, (issue,))
