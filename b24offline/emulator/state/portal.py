"""One portal with one installed application: all its state, and the lock that guards it."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final

from b24offline.emulator.state.journal import Journal, Sequence
from b24offline.emulator.state.limits import LeakyBucket, OperatingTime
from b24offline.emulator.state.objects import Objects
from b24offline.emulator.state.queue import OfflineQueue
from b24offline.emulator.state.quirks import Quirks
from b24offline.emulator.state.subscriptions import Subscriptions
from b24offline.emulator.state.templates import ENTITIES, ITEM_TYPES
from b24offline.emulator.state.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from b24offline.emulator.state.clock import Clock
    from b24offline.emulator.state.objects import StoredObject

KEPT_REQUESTS: Final = 50_000
ADD, UPDATE, DELETE = "add", "update", "delete"
ACTIONS: Final = (ADD, UPDATE, DELETE)
_NAMES: Final = {
    "crm_lead": "ONCRMLEAD",
    "crm_deal": "ONCRMDEAL",
    "crm_contact": "ONCRMCONTACT",
    "crm_company": "ONCRMCOMPANY",
    "crm_item": "ONCRMDYNAMICITEM",
    "task": "ONTASK",
}


@dataclass(slots=True)
class Licence:
    """What the portal's plan allows."""

    rest_offline_extended: bool = True
    rest_auth_connector: bool = True
    commercial: bool = True


@dataclass(slots=True)
class Account:
    """The user behind the tokens, and the state of the application on the portal."""

    user_id: int = 1
    admin: bool = True
    installed: bool = True
    removed: bool = False
    scopes: str = "crm,task,tasks,user,event"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a portal is reached: `endpoint` ends in `/rest/`, `domain` is host and port."""

    endpoint: str
    domain: str
    auth_url: str


def events_of(action: str, changed: StoredObject, moved: Mapping[str, Any] | None = None) -> list[tuple[str, Any]]:
    """Return names and data of the events that a change raises; `moved` are the fields of a deal's new funnel."""
    name = _NAMES[changed.entity] + action.upper()
    if changed.entity == "task":
        own = {"ID": changed.id}
        before, after = ("undefined" if action == ADD else own), ("undefined" if action == DELETE else own)
        return [(name, {"FIELDS_BEFORE": before, "FIELDS_AFTER": after})]
    if changed.entity == "crm_item":
        data = {"FIELDS": {"ID": changed.number, "ENTITY_TYPE_ID": str(changed.item_type)}}
        return [(name, data), (f"{name}_{changed.item_type}", data)]
    events: list[tuple[str, Any]] = [(name, {"FIELDS": {"ID": changed.id}})]
    if moved:
        events.append(("ONCRMDEALMOVETOCATEGORY", {"FIELDS": {"ID": changed.id, **moved}}))
    return events


class Portal:
    """State and transitions of one portal.

    Hold `lock` to read or change it. `on_arrival` is called under the lock when records have arrived.
    """

    def __init__(self, name: str, seed: int, address: Address, clock: Clock, refresh_token: str | None = None) -> None:
        self.name = name
        self.address = address
        self.clock = clock
        self.lock = threading.RLock()
        self._ids = Random(f"{seed}/{name}/ids")
        self.rng = Random(f"{seed}/{name}/contents")
        self.member_id = f"{self._ids.getrandbits(128):032x}"
        self.application_token = self.new_token()
        self.sequence = Sequence()
        self.history = Journal(self.sequence)
        self.changes = Journal(self.sequence)
        self.requests = Journal(self.sequence, keep=KEPT_REQUESTS)
        self.calls: Counter[str] = Counter()
        self.queue = OfflineQueue(self.history, lambda: f"{self._ids.getrandbits(128):032x}")
        self.objects = Objects(self.rng)
        self.subscriptions = Subscriptions()
        self.tokens = Tokens(self.new_token, refresh_token or self.new_token(), clock.now())
        self.bucket = LeakyBucket()
        self.operating = OperatingTime()
        self.quirks = Quirks()
        self.licence = Licence()
        self.account = Account()
        self.on_arrival: Callable[[], None] = lambda: None

    def new_token(self) -> str:
        """Return a text of 70 hexadecimal characters that nobody can guess without the seed."""
        return f"{self._ids.getrandbits(280):070x}"

    def seed_objects(self, number: int) -> None:
        """Spread objects over the six entities, without changes or events."""
        now = self.clock.now()
        types = list(ITEM_TYPES)
        for place in range(number):
            entity = ENTITIES[place % len(ENTITIES)]
            item_type = types[place // len(ENTITIES) % len(types)] if entity == "crm_item" else 0
            self.objects.add(entity, now, item_type=item_type)

    def add(
        self, entity: str, fields: Mapping[str, Any] | None = None, *, item_type: int = 0, connector: str = ""
    ) -> StoredObject:
        """Make an object and queue its event."""
        made = self.objects.add(entity, self.clock.now(), fields, item_type)
        self._changed(ADD, made, connector)
        return made

    def update(self, found: StoredObject, fields: Mapping[str, Any] | None = None, *, connector: str = "") -> None:
        """Change an object and queue its event; a deal that changes its funnel raises a second one."""
        funnel = found.data.get("CATEGORY_ID")
        self.objects.update(found, self.clock.now(), fields)
        moved, data = None, found.data
        if found.entity == "crm_deal" and data["CATEGORY_ID"] != funnel:
            moved = {"CATEGORY_ID": data["CATEGORY_ID"], "STAGE_ID": data["STAGE_ID"]}
        self._changed(UPDATE, found, connector, moved)

    def delete(self, found: StoredObject, *, connector: str = "") -> None:
        """Delete an object and queue its event."""
        self.objects.delete(found)
        self._changed(DELETE, found, connector)

    def raise_event(self, name: str, data: Any, subject: tuple[str, str], connector: str = "") -> int:
        """Queue an event for every connector that bound it, except the one that caused it; return how many."""
        if not self.account.installed or self.account.removed:
            return 0
        connectors = [bound for bound in self.subscriptions.connectors(name) if not connector or bound != connector]
        self.expire()
        additional = {"user_id": str(self.account.user_id)}
        for bound in connectors:
            self.queue.enqueue(self.clock.now(), bound, name, data, additional=additional, subject=subject)
        if connectors:
            self.on_arrival()
        return len(connectors)

    def expire(self) -> int:
        """Delete what was reserved 30 days ago, as the portal has done by now; return how many."""
        return self.queue.expire(self.clock.now())

    def remove_application(self) -> None:
        """Uninstall the application: its bindings, records and tokens are gone."""
        self.account.removed = True
        self.subscriptions.unbind(lambda _: True)
        self.queue.drop_all(self.clock.now())
        self.tokens.revoke(self.clock.now())

    def install_application(self) -> None:
        """Install the application again, with a new refresh token and without bindings."""
        self.account.removed = False
        self.account.installed = True
        self.tokens = Tokens(self.new_token, self.new_token(), self.clock.now())

    def _changed(
        self, action: str, changed: StoredObject, connector: str, moved: Mapping[str, Any] | None = None
    ) -> None:
        changed.changed = self.changes.add(
            self.clock.now(), entity=changed.entity, id=changed.id, action=action, connector=connector
        )
        for name, data in events_of(action, changed, moved):
            self.raise_event(name, data, (changed.entity, changed.id), connector)
