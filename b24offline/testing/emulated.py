"""The emulated portal of a test: `portal.deals.update(5)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from b24offline.emulator import Control, EmulatorProcess

ENTITIES: Final = {
    "leads": "crm_lead",
    "deals": "crm_deal",
    "contacts": "crm_contact",
    "companies": "crm_company",
    "items": "crm_item",
    "tasks": "task",
}


class Collection:
    """The objects of one entity. A change of one queues its event, as a person's change in the portal does."""

    def __init__(self, control: Control, entity: str) -> None:
        self._control = control
        self._entity = entity

    def add(self, **fields: Any) -> str:
        """Add an object, with made-up fields where none are given. Return its id."""
        return self._control.change(self._entity, "add", fields=fields or None)[0]

    def update(self, object_id: str | int, **fields: Any) -> None:
        """Change fields of an object, made-up ones where none are given."""
        self._control.change(self._entity, "update", ids=[str(object_id)], fields=fields or None)

    def delete(self, object_id: str | int) -> None:
        """Delete an object."""
        self._control.change(self._entity, "delete", ids=[str(object_id)])

    def __getitem__(self, object_id: str | int) -> dict[str, Any]:
        """Return an object as the portal has it now. Raise KeyError where it has none."""
        for each in self._control.objects(self._entity):
            if each["id"] == str(object_id) and not each["deleted"]:
                return dict(each["data"])
        raise KeyError(object_id)


class EmulatedPortal:
    """A portal of the emulator, with ten objects of each entity.

    Attributes:
        control: everything else that the emulator can do: faults, limits, licences, tokens (docs/emulator.md).
    """

    def __init__(self, process: EmulatorProcess) -> None:
        self.process = process
        self.control = process.control()
        self._since = 0

    def __getattr__(self, name: str) -> Collection:
        if name not in ENTITIES:
            raise AttributeError(f"a portal has {', '.join(ENTITIES)}, and control; not {name}")
        return Collection(self.control, ENTITIES[name])

    def answer(self, method: str, result: Any) -> None:
        """Answer a method with this result until the test ends, as for one that the emulator does not know."""
        self.control.fault(method, "error", status=200, body={"result": result})

    def begin(self) -> None:
        """Forget the calls so far, and end the faults that are armed."""
        self.control.disarm()
        self._since = int(self.control.state()["seq"])

    @property
    def calls(self) -> list[str]:
        """The methods that were called since the test began, in order, without those of the queue and its events."""
        called = [str(entry["method"]) for entry in self.control.requests(self._since)]
        return [method for method in called if not method.startswith("event.")]

    @property
    def settings(self) -> dict[str, str]:
        """The settings of a deployment that serves this portal."""
        return {
            "B24_PORTAL_NAME": "acme",
            "B24_PORTAL_URL": self.process.rest,
            "B24_AUTH_URL": self.process.auth_url,
            "B24_LOOPBACK_HTTP": "true",
            "B24_CLIENT_ID": self.process.client_id,
            "B24_CLIENT_SECRET": self.process.client_secret,
            "B24_REFRESH_TOKEN": str(self.process.hello["refresh_token"]),
        }
