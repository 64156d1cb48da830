"""What the vendor leaves open, and what this portal does about it; every choice can be changed."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Quirks:
    """The choices of one portal.

    The defaults are harder on a careless client, but for `limit_error_has_time` and `time_has_operating`: there
    they are the softer choice.
    """

    empty_reservation_has_process_id: bool = True
    """A reserving call that finds nothing answers with a fresh process id (else null)."""
    clear_free_in_all_connectors: bool = True
    """`event.offline.clear` with an empty process id deletes the free records of every connector (else of its own)."""
    unknown_filter_is_error: bool = True
    """An unknown field or operation in a filter is refused with 400 (else the condition is ignored)."""
    rows_over_limit: int = 0
    """A reserving call reserves and answers so many records more than its limit; no vendor's text allows it."""
    rebind_is_error: bool = True
    """Binding what is already bound is refused with 400 (else it answers true and changes nothing)."""
    event_get_shows_connector: bool = False
    """`event.get` shows `connector_id` of offline bindings."""
    refresh_grace_seconds: float = 0.0
    """How long a replaced refresh token still works."""
    oauth_error_status: int = 400
    """HTTP status of refusals of the token endpoint."""
    removed_app_status: int = 401
    """HTTP status of a call for an application that was removed."""
    removed_app_error: str = "NO_AUTH_FOUND"
    """Error code of a call for an application that was removed."""
    bad_reference: str = ""
    """What stands for a `$result[...]` reference in a batch that leads nowhere."""
    limit_error_has_time: bool = True
    """The 429 body carries `time` with `operating_reset_at` (else no `time`)."""
    time_has_operating: bool = True
    """Answers carry `operating` and `operating_reset_at` in `time` (else neither)."""

    def changed(self, values: dict[str, Any]) -> Quirks:
        """Return these choices with some replaced.

        Raise ValueError for an unknown name, TypeError for a value of another type.
        """
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"unknown quirk {name!r}; known are {', '.join(known)}")
            wanted = (int, float) if isinstance(known[name], float) else type(known[name])
            if not isinstance(value, wanted):
                raise TypeError(f"quirk {name!r} takes {type(known[name]).__name__}, not {value!r}")
        return replace(self, **values)
