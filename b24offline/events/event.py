"""What a pipeline sees of a change in a portal: `Event`, and the identity of the object that changed. Pure."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

from b24offline.events.record import JSON, stamp_seconds

Action: TypeAlias = Literal["add", "update", "delete", "other"]
"""What happened to the object, by the verb in the event's name; saving and moving count as `other`."""
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """The identity of an object: portal, entity ("crm_deal") and id within the entity ("123", "1046:7")."""

    portal: str
    entity: str
    object_id: str

    def __str__(self) -> str:
        return f"{self.entity} {self.object_id}"

    @property
    def name(self) -> str:
        """Entity and id as one word, `crm_deal:123`, for keys and for the idempotency key."""
        return f"{self.entity}:{self.object_id}"


@dataclass(frozen=True, slots=True)
class Event:
    """One change in a portal, as a pipeline sees it.

    Attributes:
        portal: name of the portal.
        record_id: id of the record that carried the event; negative when there is none (see `local`).
        stamp: when the portal queued or repeated it, ISO 8601 with offset as sent.
        message_id: 32 characters, equal for every event of the same name and data.
        name: event name in upper case, `ONCRMDEALUPDATE`.
        action: "add", "update", "delete" or "other".
        object: what changed; None where the event has no object or an unreadable id.
        data: the payload, mostly ids only; never logged, so it has no place in the repr.
        user_id: who caused it; None when no user acted.
        nacked: whether its record was nacked before.
    """

    portal: str
    record_id: int
    stamp: str
    message_id: str
    name: str
    action: Action
    object: ObjectKey | None
    data: JSON = field(repr=False)
    user_id: int | None
    nacked: bool

    @property
    def delivery(self) -> str:
        """`<record id>@<stamp in epoch seconds>`: one delivery of one record of the portal."""
        return f"{self.record_id}@{stamp_seconds(self.stamp)}"

    @property
    def object_name(self) -> str:
        """The name of its object; a record without object counts as an object of its own."""
        return self.object.name if self.object else f"record:{self.record_id}"

    @property
    def synthetic(self) -> bool:
        """Whether no record of the portal stands behind it."""
        return self.record_id < 0

    @property
    def retrying(self) -> bool:
        """Whether a failed run is retried instead of nacked: its record was nacked before, or it has none."""
        return self.nacked or self.synthetic

    def idempotency_key(self, pipeline: str) -> str:
        """Return a text that is the same whenever this event runs through the given pipeline.

        A repeat of the event in the portal has another stamp, hence another key. A nacked record may stand for a newer
        change than the one that failed, which `event.offline.error` deleted, with an unchanged stamp: its runs have a
        key of their own. The key of a synthetic event names the object, so it is the same when the same missed change
        is injected twice.
        """
        if self.synthetic and self.object is not None:
            return f"{self.portal}:synthetic:{self.object.name}@{stamp_seconds(self.stamp)}:{pipeline}"
        return f"{self.portal}:{self.delivery}{':nacked' if self.nacked else ''}:{pipeline}"

    def to_json(self) -> str:
        """Return the event as JSON in ASCII; `from_json` is the inverse."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        values["object"] = None if self.object is None else [self.object.entity, self.object.object_id]
        return json.dumps(values, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Event:
        """Return the event that `to_json` wrote.

        Raises:
            ValueError: the text is not such an event.
        """
        values = json.loads(text)
        try:
            if values["action"] not in ACTIONS:
                raise ValueError("not an event: unknown action")
            stamp_seconds(values["stamp"])
            key = values.pop("object")
            where = None if key is None else ObjectKey(values["portal"], str(key[0]), str(key[1]))
            return cls(object=where, **values)
        except (TypeError, KeyError, IndexError, AttributeError) as error:
            raise ValueError(f"not an event: {type(error).__name__} in its JSON") from error
