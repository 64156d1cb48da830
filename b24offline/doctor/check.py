"""One line of the doctor: what was looked at, how it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CheckState(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """It works, and somebody should know."""
    FAILED = "failed"
    """It does not work, or can lose time or order, until somebody acts."""
    SKIPPED = "skipped"
    """Not looked at, because something before it failed or is not there."""


@dataclass(frozen=True, slots=True)
class Check:
    """A finding.

    Attributes:
        name: what was looked at; it never changes.
        state: how it is.
        finding: what was found, for people.
        remedy: what to do; "" where nothing is to be done.
        portal: name of the portal it is about, "" for the deployment.
    """

    name: str
    state: CheckState
    finding: str
    remedy: str = ""
    portal: str = ""


def counted(number: int, noun: str) -> str:
    """Return a number of things: `1 portal`, `2 portals`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def ok(name: str, finding: str, *, portal: str = "") -> Check:
    """Return a check that found all well."""
    return Check(name, CheckState.OK, finding, portal=portal)


def skipped(name: str, why: str, *, portal: str = "") -> Check:
    """Return a check that was not made."""
    return Check(name, CheckState.SKIPPED, why, portal=portal)


def warning(name: str, finding: str, remedy: str, *, portal: str = "") -> Check:
    """Return a check of something that somebody should know."""
    return Check(name, CheckState.WARNING, finding, remedy, portal)


def failed(name: str, finding: str, remedy: str, *, portal: str = "") -> Check:
    """Return a check of something that does not work."""
    return Check(name, CheckState.FAILED, finding, remedy, portal)
