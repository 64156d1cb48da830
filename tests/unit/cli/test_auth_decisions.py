"""Which portal an authorization is for, and what a pasted address holds."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from b24offline.cli.auth import Wanted, endpoint_of, known_portal
from b24offline.cli.output import Refusal
from b24offline.errors import WrongRedirect
from b24offline.events import DesiredState, ObservedState, Portal
from b24offline.rest import authorize_link, code_from

NOW = datetime(2026, 4, 3, tzinfo=UTC)
ACME = "https://acme.bitrix24.com/rest/"


def portal(name: str, endpoint: str = ACME, client: str = "app.1", connector: str = "b24offline", member: str = "m1"):
    state = (ObservedState.ACTIVE, "", NOW, "", DesiredState.RUN, NOW, NOW)
    return Portal(name, endpoint, "https://a/", client, "", connector, member, *state, 1, None, NOW)


STORED = [portal("acme"), portal("other", connector="second"), portal("old", "https://old.bitrix24.com/rest/", "app.9")]


@pytest.mark.parametrize(
    "address",
    [
        "acme.bitrix24.com",
        "https://acme.bitrix24.com",
        " https://acme.bitrix24.com/rest/ ",
        "https://acme.bitrix24.com/crm/deal/list/",
    ],
)
def test_any_address_of_a_portal_names_it(address: str) -> None:
    assert endpoint_of(address) == ACME


@pytest.mark.parametrize(
    ("wanted", "member", "found"),
    [
        (Wanted(ACME, "app.1", "", "b24offline"), "m1", "acme"),
        (Wanted(ACME, "app.1", "other", ""), "m1", "other"),
        (Wanted("https://renamed.bitrix24.com/rest/", "app.1", "acme", ""), "m1", "acme"),
        (Wanted(ACME, "app.2", "", ""), "m1", None),
        (Wanted(ACME, "app.1", "new", "third"), "m1", None),
        (Wanted("https://new.bitrix24.com/rest/", "app.1", "", ""), "", None),
    ],
)
def test_an_authorization_finds_its_portal(wanted: Wanted, member: str, found: str | None) -> None:
    known = known_portal(STORED, wanted, member)
    assert (known.name if known else None) == found


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Wanted(ACME, "app.1", "", ""), "several names: acme, other"),
        (Wanted(ACME, "app.1", "old", ""), "old belongs to another portal"),
        (Wanted(ACME, "app.1", "acme", "second"), "acme belongs to another portal, application or connector"),
    ],
)
def test_an_unclear_authorization_is_refused(wanted: Wanted, words: str) -> None:
    with pytest.raises(Refusal, match=words):
        known_portal(STORED, wanted, "m1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("https://mine.example/?code=c&state=other", "state differs"),
        ("https://mine.example/?code=c", "state differs"),
        ("https://mine.example/?state=s", "no code="),
        ("nonsense", "no code="),
    ],
)
def test_an_address_without_our_code_is_named(text: str, words: str) -> None:
    with pytest.raises(WrongRedirect, match=words):
        code_from(text, "s")


def test_the_link_and_its_answer_fit() -> None:
    assert authorize_link(ACME, "app.1", "s") == "https://acme.bitrix24.com/oauth/authorize/?client_id=app.1&state=s"
    assert code_from(" https://mine.example/?code=c%2B1&state=s&domain=x\n", "s") == "c+1"
