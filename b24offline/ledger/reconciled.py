"""How the last reconciliation of a portal ended. After the loss of the ledger nothing is known of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from b24offline import keys

if TYPE_CHECKING:
    from redis import Redis


@dataclass(frozen=True, slots=True)
class Reconciled:
    """One reconciliation that ended; times in milliseconds of the ledger's clock.

    Attributes:
        at_ms: when it ended.
        why: "daily", "by hand" or what made it necessary.
        since_ms: where it began to look.
        covered_ms: everything that changed before was compared, by this one or by those before it.
        compared: objects looked at.
        missed: changes whose events never came; they were run.
        gone: objects of the mirror that the portal has no more; they were run, too.
        regular_ms: when the last one ended that left no gap before it: the next regular one is due a period later.
    """

    at_ms: int
    why: str
    since_ms: int
    covered_ms: int
    compared: int
    missed: int
    gone: int
    regular_ms: int = 0

    def __str__(self) -> str:
        """Return it in a line, for people."""
        ended = datetime.fromtimestamp(self.at_ms / 1000, UTC)
        missed = self.missed + self.gone
        return f"{ended:%Y-%m-%d %H:%M:%S} UTC, {self.why}: {self.compared} compared, {missed} missed"


def last_reconciled(redis: Redis, stem: str) -> Reconciled | None:
    """Return how the last one ended; None when the ledger knows of none. ``stem``: that of the portal's keys."""
    text = redis.get(keys.reconciled(stem))
    return None if text is None else Reconciled(**json.loads(text))


def save_reconciled(redis: Redis, stem: str, reconciled: Reconciled) -> None:
    """Keep how a reconciliation ended, in the place of the one before."""
    redis.set(keys.reconciled(stem), json.dumps(asdict(reconciled)))
