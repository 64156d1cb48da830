"""Dead letters: records that were given up until a person acts, and which of them a command selects."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select, update

from b24offline.errors import UnknownDeadLetter, WrongKey
from b24offline.store.database import connected, insert_into, storable, transaction
from b24offline.store.schema import DEAD_LETTERS, place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, Engine, RowMapping

    from b24offline.store.cipher import Cipher

PAGE: Final = 500
"""Dead letters read at once."""


@dataclass(frozen=True)
class DeadLetter:
    """A record that was given up until a person acts, or (``ended_at``) that was until somebody did."""

    id: int
    portal: str
    record_id: int
    message_id: str
    event_name: str
    object: str
    pipeline: str
    reason: str
    payload: Mapping[str, Any] = field(repr=False)
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions on dead letters; an empty one matches all.

    Attributes:
        ids: their numbers.
        portal: name of the portal.
        event: event name, in any case.
        reason: how their reason begins, an error's class.
        older_than_seconds: least age since they were dead-lettered.
    """

    ids: tuple[int, ...] = ()
    portal: str = ""
    event: str = ""
    reason: str = ""
    older_than_seconds: float = 0.0

    @property
    def empty(self) -> bool:
        """Whether it matches every dead letter."""
        return not (self.ids or self.portal or self.event or self.reason or self.older_than_seconds)

    def matches(self, dead_letter: DeadLetter, now: datetime) -> bool:
        """Return whether a dead letter is selected, at ``now``. Pure."""
        return (
            (not self.ids or dead_letter.id in self.ids)
            and (not self.portal or dead_letter.portal == self.portal)
            and (not self.event or dead_letter.event_name == self.event.upper())
            and dead_letter.reason.startswith(self.reason)
            and (now - dead_letter.created_at).total_seconds() >= self.older_than_seconds
        )


class DeadLetters:
    """The dead letters of a database; ``clock`` gives epoch seconds."""

    def __init__(self, engine: Engine, cipher: Cipher, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._cipher = cipher
        self._clock = clock

    def add(
        self,
        *,
        portal: str,
        record_id: int,
        message_id: str,
        event_name: str,
        object: str,  # noqa: A002 - the project's word for it
        pipeline: str,
        reason: str,
        payload: Mapping[str, object],
    ) -> int:
        """Keep a record that is given up and return the dead letter's number.

        While a dead letter of the same record and pipeline is open, that one gets the new reason and payload.
        ``payload`` is any JSON and is stored encrypted.
        """
        row = {"portal": portal, "record_id": record_id, "pipeline": pipeline}
        secret = self._cipher.encrypt(json.dumps(payload), place_of(DEAD_LETTERS, "payload", row))
        statement = insert_into(self._engine, DEAD_LETTERS).values(
            **row,
            message_id=storable(message_id),
            event_name=storable(event_name),
            object=storable(object),
            reason=storable(reason),
            payload=secret,
            created_at=self._clock(),
        )
        statement = statement.on_conflict_do_update(
            index_elements=[DEAD_LETTERS.c.portal, DEAD_LETTERS.c.record_id, DEAD_LETTERS.c.pipeline],
            index_where=DEAD_LETTERS.c.ended_at.is_(None),
            set_={"reason": storable(reason), "payload": secret},
        )
        with transaction(self._engine) as connection:
            dead_letter_id: int = connection.execute(statement.returning(DEAD_LETTERS.c.id)).scalar_one()
        return dead_letter_id

    def seal(self, words: str, portal: str, run: str) -> str:
        """Return words about a run encrypted, to be kept outside of the database until its dead letter is written."""
        return self._cipher.encrypt(words, ("error", portal, run))

    def unseal(self, sealed: str, portal: str, run: str) -> str:
        """Return what `seal` encrypted; ``""`` where the key has changed since."""
        try:
            return self._cipher.decrypt(sealed, ("error", portal, run), "the words of an error")
        except WrongKey:
            return ""

    def list(
        self, portal: str | None = None, *, ended: bool = False, limit: int = 100, after_id: int = 0
    ) -> Sequence[DeadLetter]:
        """Return open dead letters (with ``ended`` the ended ones) by number, of one portal or of all."""
        dead_letter = DEAD_LETTERS.c
        query = select(DEAD_LETTERS).where(dead_letter.id > after_id).order_by(dead_letter.id).limit(limit)
        query = query.where(dead_letter.ended_at.is_not(None) if ended else dead_letter.ended_at.is_(None))
        if portal is not None:
            query = query.where(dead_letter.portal == portal)
        with connected(self._engine) as connection:
            rows = connection.execute(query).mappings().all()
        return [self._dead_letter(row) for row in rows]

    def select(self, selection: Selection, *, ended: bool = False) -> Iterator[DeadLetter]:
        """Yield the open (or ended) dead letters that are selected, by number; they are read page by page."""
        now, last = datetime.now(UTC), 0
        while page := self.list(selection.portal or None, ended=ended, limit=PAGE, after_id=last):
            last = page[-1].id
            yield from (dead_letter for dead_letter in page if selection.matches(dead_letter, now))

    def get(self, dead_letter_id: int) -> DeadLetter:
        """Return one dead letter, open or ended. Raise UnknownDeadLetter."""
        query = select(DEAD_LETTERS).where(DEAD_LETTERS.c.id == dead_letter_id)
        with connected(self._engine) as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise UnknownDeadLetter(f"There is no dead letter {dead_letter_id}. List them to see the numbers.")
        return self._dead_letter(row)

    def end(self, dead_letter_id: int, note: str = "") -> bool:
        """Mark a dead letter as ended, ``note`` added to its reason; return False when none of that number is open."""
        return self._end(DEAD_LETTERS.c.id == dead_letter_id, note) > 0

    def end_of_record(self, portal: str, record_id: int) -> int:
        """Mark the open dead letters of a record as ended, as when it has run after all; return how many."""
        return self._end((DEAD_LETTERS.c.portal == portal) & (DEAD_LETTERS.c.record_id == record_id))

    def count(self, portal: str | None = None) -> int:
        """Return the number of open dead letters, of one portal or of all."""
        query = select(func.count()).select_from(DEAD_LETTERS).where(DEAD_LETTERS.c.ended_at.is_(None))
        if portal is not None:
            query = query.where(DEAD_LETTERS.c.portal == portal)
        with connected(self._engine) as connection:
            count: int = connection.execute(query).scalar_one()
        return count

    def counts(self) -> dict[str, int]:
        """Return portal -> number of its open dead letters, where it has any."""
        dead_letter = DEAD_LETTERS.c
        query = select(dead_letter.portal, func.count()).where(dead_letter.ended_at.is_(None))
        with connected(self._engine) as connection:
            rows = connection.execute(query.group_by(dead_letter.portal)).all()
        return {str(portal): int(count) for portal, count in rows}

    def _end(self, which: ColumnElement[bool], note: str = "") -> int:
        statement = update(DEAD_LETTERS).where(which, DEAD_LETTERS.c.ended_at.is_(None))
        values: dict[str, object] = {"ended_at": self._clock()}
        if note:
            values["reason"] = DEAD_LETTERS.c.reason + storable(f"; {note}")
        with transaction(self._engine) as connection:
            return connection.execute(statement.values(**values)).rowcount

    def _dead_letter(self, row: RowMapping) -> DeadLetter:
        values = dict(row)
        place = place_of(DEAD_LETTERS, "payload", row)
        payload = self._cipher.decrypt(values["payload"], place, f"the payload of dead letter {values['id']}")
        values["payload"] = json.loads(payload)
        values["created_at"] = datetime.fromtimestamp(values["created_at"], UTC)
        if values["ended_at"] is not None:
            values["ended_at"] = datetime.fromtimestamp(values["ended_at"], UTC)
        return DeadLetter(**values)
