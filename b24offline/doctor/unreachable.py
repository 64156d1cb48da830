"""A server that cannot be used: why, by the words of its client's error, and what to do about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from b24offline.doctor.check import failed

if TYPE_CHECKING:
    from b24offline.doctor.check import Check


@dataclass(frozen=True, slots=True)
class _Cause:
    """Words of errors that have one cause; ``setting`` in the remedy is the one with the address."""

    words: tuple[str, ...]
    finding: str
    remedy: str


_CAUSES: Final = (
    _Cause(
        ("CERTIFICATE_VERIFY_FAILED",),
        "shows a certificate that is not trusted",
        "Set B24_SERVICE_CA_FILE to the CA of that server. If it is set, another server may be answering there.",
    ),
    _Cause(
        ("Authentication required", "invalid username-password", "ACCESS_REFUSED"),
        "refuses the name or the password",
        "Correct them in {setting}.",
    ),
    _Cause(
        ("DENIED Running in protected mode",),
        "accepts connections from its own machine only: it is in protected mode",
        "Give that server a password; or protected-mode no, where a firewall or a network of containers protects it.",
    ),
    _Cause(
        ("No master found",),
        "has no primary server of that name",
        "Correct B24_REDIS_PRIMARY, or check the Sentinels.",
    ),
)


def unreachable(name: str, where: str, error: str, setting: str, *, remedy: str) -> Check:
    """Return the check of a server that cannot be used. ``remedy`` is for an error of no known cause."""
    for cause in _CAUSES:
        if any(words in error for words in cause.words):
            return failed(name, f"{where} {cause.finding}.", cause.remedy.format(setting=setting))
    return failed(name, f"{where} does not answer: {error.rstrip('.')}.", remedy)
