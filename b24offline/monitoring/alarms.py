"""Alarms: issues are logged once when they begin, and once when they are over, and sent to the webhook if there is one.

The ledger keeps which issues were logged, so that many workers and restarts log each one once. After a lost ledger they
are logged again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from b24offline import keys
from b24offline.ledger import Ledger
from b24offline.monitoring.status import portal_statuses

if TYPE_CHECKING:
    from redis import Redis

    from b24offline.config import Config
    from b24offline.monitoring.health import Issue
    from b24offline.monitoring.webhook import IssueWebhook
    from b24offline.store import Store

log = logging.getLogger(__name__)

SEEN_ONCE: Final = ""
"""Kept instead of the message of an issue that was seen once and is not logged yet."""


def log_alarms(store: Store, redis: Redis, config: Config, webhook: IssueWebhook | None = None) -> None:
    """Log the issues of all portals that began or are over, and send what the webhook has not taken."""
    for status in portal_statuses(store, redis, config):
        ledger = Ledger(redis, config.redis_key_prefix, status.portal.name, config.timers)
        log_changes(redis, ledger, status.issues, webhook)
    if webhook:
        webhook.send()


def log_changes(
    redis: Redis, ledger: Ledger, issues: tuple[Issue, ...], webhook: IssueWebhook | None = None
) -> tuple[int, int]:
    """Log the issues of one portal that are seen for the second time, and those that are over.

    An issue that passes before it is seen twice is not logged. Return how many began and how many are over.
    """
    hash_key = keys.alarms(ledger.stem)
    current = {issue.key: issue for issue in issues}
    known: dict[str, str] = {str(key): str(message) for key, message in redis.hgetall(hash_key).items()}
    began = over = 0
    for key, issue in current.items():
        if key not in known:
            redis.hset(hash_key, key, SEEN_ONCE)
        elif known[key] == SEEN_ONCE:
            redis.hset(hash_key, key, issue.message)
            began += 1
            fields = {"code": issue.code, "portal": ledger.portal, "actor": issue.actor, "issue": issue.message}
            log.error("alarm", extra=fields)
            if webhook:
                webhook.note("begins", {**fields, "subject": issue.subject})
    for key in known.keys() - current.keys():
        redis.hdel(hash_key, key)
        if known[key] != SEEN_ONCE:
            over += 1
            code, _, rest = key.partition(":")
            fields = {"code": code, "portal": ledger.portal, "issue": known[key]}
            log.warning("alarm is over", extra=fields)
            if webhook:
                subject, _, actor = rest.rpartition(":")
                webhook.note("over", {**fields, "actor": actor, "subject": subject})
    return began, over
