"""Issues told in the log: once when they begin, once when they are over.

Which issues were told is kept in the ledger, so that many workers and restarts tell each one once; after the loss of
the ledger they are told again.
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
    from b24offline.store import Store

log = logging.getLogger(__name__)

UNTOLD: Final = ""
"""Stands for an issue that was seen once."""


def tell_all(store: Store, redis: Redis, config: Config) -> None:
    """Log the issues of all portals that began or are over."""
    for one in portal_statuses(store, redis, config):
        tell(redis, Ledger(redis, config.redis_key_prefix, one.portal.name, config.timers), one.issues)


def tell(redis: Redis, ledger: Ledger, issues: tuple[Issue, ...]) -> tuple[int, int]:
    """Log the issues of one portal that were there at the look before too, and those that are over.

    An issue that passes between two looks is not worth a line. Return how many began and how many are over.
    """
    hash_key = keys.alarms(ledger.stem)
    current = {issue.key: issue for issue in issues}
    known: dict[str, str] = {str(key): str(message) for key, message in redis.hgetall(hash_key).items()}
    began = over = 0
    for key, issue in current.items():
        if key not in known:
            redis.hset(hash_key, key, UNTOLD)
        elif known[key] == UNTOLD:
            redis.hset(hash_key, key, issue.message)
            began += 1
            fields = {"code": issue.code, "portal": ledger.portal, "actor": issue.actor, "issue": issue.message}
            log.error("alarm", extra=fields)
    for key in known.keys() - current.keys():
        redis.hdel(hash_key, key)
        if known[key] != UNTOLD:
            over += 1
            code = key.partition(":")[0]
            log.warning("alarm is over", extra={"code": code, "portal": ledger.portal, "issue": known[key]})
    return began, over
