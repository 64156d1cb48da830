"""Which events an application has bound, online and offline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Binding:
    """One registration. An offline one has a connector (maybe empty) and no handler."""

    event: str
    offline: bool
    connector: str = ""
    handler: str = ""
    user_id: str = "0"
    min_timeout_seconds: float = 0.0


class Subscriptions:
    """The bindings of one application."""

    def __init__(self) -> None:
        self._bindings: list[Binding] = []
        self._connectors: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return len(self._bindings)

    def all(self) -> list[Binding]:
        """Return every binding, oldest first."""
        return list(self._bindings)

    def bind(self, binding: Binding) -> bool:
        """Register a binding; return False when the event is already bound to this handler or connector."""
        for known in self._bindings:
            if (known.event, known.offline, known.connector, known.handler) == (
                binding.event,
                binding.offline,
                binding.connector,
                binding.handler,
            ):
                return False
        self._bindings.append(binding)
        self._index()
        return True

    def unbind(self, meant: Callable[[Binding], bool]) -> int:
        """Remove the bindings that are meant and return their number."""
        before = len(self._bindings)
        self._bindings = [binding for binding in self._bindings if not meant(binding)]
        self._index()
        return before - len(self._bindings)

    def connectors(self, event: str) -> list[str]:
        """Return the connectors that have bound an event offline."""
        return self._connectors.get(event, [])

    def handlers(self, event: str) -> list[Binding]:
        """Return the online bindings of an event."""
        return [binding for binding in self._bindings if binding.event == event and not binding.offline]

    def _index(self) -> None:
        self._connectors = {}
        for binding in self._bindings:
            if binding.offline:
                self._connectors.setdefault(binding.event, []).append(binding.connector)
