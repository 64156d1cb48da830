"""What a portal says about itself, the application and its user, in one request.

Source: `app.info`, `profile`, `feature.get`, `scope`, `server.time` and `method.get` of the vendor's documentation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from b24offline.rest.client import Command
from b24offline.rest.offline_queue import QUEUE_METHODS
from b24offline.rest.subscriptions import FEATURES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from b24offline.errors import PortalError
    from b24offline.events import JSON
    from b24offline.rest.client import BatchAnswer

_MOST_METHODS: Final = 40
"""As many as a batch has room for beside the other questions."""


@dataclass(frozen=True, slots=True)
class PortalFacts:
    """A portal's answers. None where it gave none; then `errors` has why, by the method that was asked.

    Attributes:
        installed: whether the installation of the application is finished.
        administrator: whether the user behind the tokens is one.
        missing_features: what the plan lacks of `FEATURES`.
        scopes: what the application was granted.
        missing_methods: methods that were asked for and are not available.
        clock: of the portal.
        errors: method -> why there is no answer.
    """

    installed: bool | None = None
    administrator: bool | None = None
    missing_features: tuple[str, ...] | None = None
    scopes: frozenset[str] | None = None
    missing_methods: tuple[str, ...] = ()
    clock: datetime | None = None
    errors: Mapping[str, PortalError] = field(default_factory=dict)


def portal_facts(
    batch: Callable[[Mapping[str, Command]], BatchAnswer], methods: Iterable[str] = QUEUE_METHODS
) -> PortalFacts:
    """Ask a portal about itself, and whether it has these methods. Raise the `PortalError` of the whole request."""
    asked = tuple(methods)[:_MOST_METHODS]
    commands = {name: Command(name, {}) for name in ("app.info", "profile", "scope", "server.time")}
    commands |= {code: Command("feature.get", {"CODE": code}) for code in FEATURES}
    commands |= {f"method {name}": Command("method.get", {"name": name}) for name in asked}
    reply = batch(commands)
    found = reply.results
    return PortalFacts(
        installed=_flag(found.get("app.info"), "INSTALLED"),
        administrator=_flag(found.get("profile"), "ADMIN"),
        missing_features=None
        if set(FEATURES) & reply.errors.keys()
        else tuple(code for code in FEATURES if not _has(found[code], "value", "Y")),
        scopes=_texts(found.get("scope")),
        missing_methods=tuple(name for name in asked if _has(found.get(f"method {name}"), "isAvailable", value=False)),
        clock=_moment(found.get("server.time")),
        errors={commands[name].method: error for name, error in reply.errors.items()},
    )


def _flag(answer: JSON, name: str) -> bool | None:
    return bool(answer.get(name)) if isinstance(answer, dict) else None


def _has(answer: JSON, name: str, value: Any) -> bool:
    return isinstance(answer, dict) and answer.get(name) == value


def _texts(answer: JSON) -> frozenset[str] | None:
    return frozenset(str(each) for each in answer) if isinstance(answer, list) else None


def _moment(answer: JSON) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(answer))
    except ValueError:
        return None
    return moment if moment.tzinfo else None
