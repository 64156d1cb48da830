"""What each answer of a portal means: a state, a sentence, a remedy."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from b24offline.doctor.portal_checks import needed_scopes, portal_checks
from b24offline.errors import AccessDenied, UnknownAnswer
from b24offline.events import shipped_catalogue
from b24offline.rest import PortalFacts

NOW = datetime(2026, 4, 3, tzinfo=UTC)
GOOD = PortalFacts(True, True, (), frozenset({"crm", "tasks"}), (), NOW)
NO_APPLICATION = {"app.info": AccessDenied("acme", "app.info", 400, "ACCESS_DENIED", "Application context required")}
LOST = {"profile": UnknownAnswer("acme", "profile", None, "", "lost")}


def states(facts: PortalFacts, *scopes: str) -> dict[str, tuple[str, str]]:
    found = portal_checks(facts, frozenset(scopes), NOW, "acme")
    return {check.name: (check.state, f"{check.finding} {check.remedy}") for check in found}


def test_a_portal_that_offers_all_passes_every_check() -> None:
    found = states(GOOD, "crm", "task")
    assert {state for state, _ in found.values()} == {"ok"}
    assert len(found) == 6


@pytest.mark.parametrize(
    ("name", "changed", "state", "words"),
    [
        ("application", {"installed": False}, "failed", "is not finished"),
        ("application", {"installed": None, "errors": NO_APPLICATION}, "failed", "does not belong to an application"),
        ("administrator", {"administrator": False}, "failed", "not an administrator"),
        ("administrator", {"administrator": None, "errors": LOST}, "skipped", "did not say: profile on portal"),
        ("plan", {"missing_features": ("rest_offline_extended",)}, "failed", "does not include rest_offline_extended"),
        ("scopes", {"scopes": frozenset({"tasks"})}, "warning", "lacks crm,"),
        ("methods", {"missing_methods": ("event.offline.get",)}, "failed", "does not offer event.offline.get"),
        ("portal clock", {"clock": NOW - timedelta(seconds=90)}, "warning", "by -90 s"),
        ("portal clock", {"clock": NOW + timedelta(seconds=59)}, "ok", "59 s"),
    ],
)
def test_what_is_wrong_fails_its_check_alone(name: str, changed: dict[str, Any], state: str, words: str) -> None:
    found = states(replace(GOOD, **changed), "crm", "task")
    assert (found[name][0], words in found[name][1]) == (state, True), found[name]
    assert {other for check, (other, _) in found.items() if check != name} == {"ok"}


def test_scopes_are_those_of_the_routed_events() -> None:
    names = ("ONCRMDEALADD", "ONTASKADD", "ONAPPINSTALL", "ONCRMDYNAMICITEMADD_147", "ONUNKNOWN")
    assert needed_scopes(shipped_catalogue(), names) == {"crm", "task"}
