"""What a person must do, told once in the log when it begins and once when it is over.

The sentences are those of `b24offline status`. Which of them were told is kept in the ledger, so that many workers and
restarts tell each one once; after its loss they are told again.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from redis import Redis

    from b24offline.ledger import Ledger
    from b24offline.overview import Need

log = logging.getLogger(__name__)

UNTOLD: Final = ""
"""Stands for a need that was seen once."""


def tell(redis: Redis, ledger: Ledger, needs: tuple[Need, ...]) -> tuple[int, int]:
    """Logs the needs of one portal that were there at the look before too, and those that are over.

    A need that passes between two looks is not worth a line. Answers how many began and how many are over.
    """
    key = f"{ledger.stem}:alarms"
    now = {_kind(need): need for need in needs}
    known: dict[str, str] = {str(kind): str(what) for kind, what in redis.hgetall(key).items()}
    began = over = 0
    for kind, need in now.items():
        if kind not in known:
            redis.hset(key, kind, UNTOLD)
        elif known[kind] == UNTOLD:
            redis.hset(key, kind, need.what)
            began += 1
            log.error("alarm", extra={"portal": ledger.portal, "actor": need.actor, "what": need.what})
    for kind in known.keys() - now.keys():
        redis.hdel(key, kind)
        if known[kind] != UNTOLD:
            over += 1
            log.warning("alarm is over", extra={"portal": ledger.portal, "what": known[kind]})
    return began, over


def _kind(need: Need) -> str:
    """The same for a sentence whose numbers change."""
    return re.sub(r"\d[\d.]*( (s|min|h|days))?", "#", f"{need.actor}: {need.what}")
