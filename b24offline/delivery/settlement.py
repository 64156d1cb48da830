"""What to do with a batch: outcomes and the portal's live records in, a plan out. Pure, and safe to repeat.

The order of the questions about one record is the protocol: is it still there; is its message in doubt; did
it succeed; is there a newer one; is it old enough to be nacked. What cannot be decided now says when to look again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from b24offline.events import Event, Record
    from b24offline.ledger import Outcome

DONE: frozenset[Outcome] = frozenset({"succeeded", "superseded"})


@dataclass(frozen=True, slots=True)
class SettleView:
    """Everything a plan depends on; times in milliseconds of the ledger's clock.

    Attributes:
        outcomes: record id -> outcome, of what is left of the batch in the ledger.
        events: record id -> its event.
        live: record id -> record, as the portal lists the batch; None when nobody looked (the one-call case).
        newer: record id -> whether a newer unmarked record of its message exists; what is missing was not looked up.
        in_doubt_until_ms: message id -> end of its in-doubt window.
        now_ms: now.
        nackable_at_ms: from when on failures of this batch may be nacked.
    """

    outcomes: Mapping[int, Outcome]
    events: Mapping[int, Event]
    live: Mapping[int, Record] | None
    newer: Mapping[int, bool]
    in_doubt_until_ms: Mapping[str, int]
    now_ms: int
    nackable_at_ms: int


@dataclass(frozen=True, slots=True)
class SettlePlan:
    """What to do, each tuple ascending by record id.

    Attributes:
        clear: to acknowledge; succeeded or superseded.
        superseded: those of ``clear`` that failed, but have a newer record.
        nack: to mark as failed on the portal.
        gone: final here and no longer in the batch on the portal; nothing is left to do.
        keep: unfinished, in doubt, too young or retrying.
        look: failed records whose newer ones must be looked up before anything can be said.
        again_at_ms: when the earliest of ``keep`` can be decided by time alone; None when an outcome will tell.
    """

    clear: tuple[int, ...] = ()
    superseded: tuple[int, ...] = ()
    nack: tuple[int, ...] = ()
    gone: tuple[int, ...] = ()
    keep: tuple[int, ...] = ()
    look: tuple[int, ...] = ()
    again_at_ms: int | None = None


def needs_look(view: SettleView) -> bool:
    """Return whether the portal must be read first. Not when all that is final succeeded and no message of it is in
    doubt."""
    return any(
        outcome not in DONE or view.in_doubt_until_ms.get(view.events[record].message_id, 0) > view.now_ms
        for record, outcome in view.outcomes.items()
        if outcome != "unfinished"
    )


def plan_settlement(view: SettleView) -> SettlePlan:
    """Decide each record of the batch on its own. Without a look (``live`` None) nothing can be nacked."""
    clear: list[int] = []
    superseded: list[int] = []
    nack: list[int] = []
    gone: list[int] = []
    keep: list[int] = []
    look: list[int] = []
    times: list[int] = []
    for record in sorted(view.outcomes):
        outcome = view.outcomes[record]
        message = view.events[record].message_id
        in_doubt = view.in_doubt_until_ms.get(message, 0)
        if outcome == "unfinished":
            keep.append(record)
        elif view.live is not None and record not in view.live:
            gone.append(record)
        elif in_doubt > view.now_ms:
            keep.append(record)
            times.append(in_doubt)
        elif outcome in DONE:
            clear.append(record)
        elif view.live is None or view.live[record].nacked:
            keep.append(record)
        elif record not in view.newer:
            keep.append(record)
            look.append(record)
        elif view.newer[record]:
            clear.append(record)
            superseded.append(record)
        elif view.now_ms < view.nackable_at_ms:
            keep.append(record)
            times.append(view.nackable_at_ms)
        else:
            nack.append(record)
    return SettlePlan(
        clear=tuple(clear),
        superseded=tuple(superseded),
        nack=tuple(nack),
        gone=tuple(gone),
        keep=tuple(keep),
        look=tuple(look),
        again_at_ms=min(times) if times else None,
    )
