"""Whose a message is, and what is done about it."""

from __future__ import annotations

import pytest

from b24offline.push.form import Malformed, parse_form
from b24offline.push.message import Action, Message, Proof, decide, message_of, proved

SIGNAL, INSTALL, UPDATE, UNINSTALL = "ONOFFLINEEVENT", "ONAPPINSTALL", "ONAPPUPDATE", "ONAPPUNINSTALL"
FULL = {"application_token": "app", "access_token": "access", "refresh_token": "refresh"}


def message(event: str = SIGNAL, **tokens: str) -> Message:
    return Message(event, "a1", **tokens)


def test_a_message_is_read_and_shows_no_token() -> None:
    form = parse_form(b"event=onOfflineEvent&auth[member_id]=a1&auth[application_token]=app&auth[access_token]=x")
    read = message_of(form)
    assert (read.event, read.member_id, read.application_token, read.access_token) == (SIGNAL, "a1", "app", "x")
    assert "app" not in repr(read)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"event=ONOFFLINEEVENT",
        b"auth[member_id]=a1",
        b"event=ON OFFLINE&auth[member_id]=a1",
        b"event=E1&auth[member_id]=a/../1",
        b"event=E1&auth[member_id]=" + b"a" * 65,
        b"event=E1&auth[member_id]=a1&auth[application_token]=two%20words",
        b"event=E1&auth[member_id]=a1&auth[refresh_token]=" + b"a" * 513,
        b"event[a]=E1&auth[member_id][b]=a1",
    ],
)
def test_what_names_nobody_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        message_of(parse_form(body))


def test_the_token_tells_which_portals_are_meant() -> None:
    known = {"one": "other", "two": "app", "three": ""}
    assert proved(message(application_token="app"), known) == (Proof.PROVED, ("two",))


@pytest.mark.parametrize("given", ["", "ap", "appp", "äpp"])
@pytest.mark.parametrize("stored", ["", "app"])
def test_another_token_or_none_proves_nothing(given: str, stored: str) -> None:
    assert proved(message(application_token=given), {"one": stored}) == (Proof.OTHER, ("one",))


def test_an_account_that_is_not_served_is_unknown() -> None:
    assert proved(message(application_token="app"), {}) == (Proof.UNKNOWN, ())


@pytest.mark.parametrize(
    ("event", "proof", "action"),
    [
        (SIGNAL, Proof.PROVED, Action.WAKE),
        (UPDATE, Proof.PROVED, Action.BIND),
        (UNINSTALL, Proof.PROVED, Action.SUSPEND),
        ("ONCRMDEALADD", Proof.PROVED, Action.NOTHING),
        (INSTALL, Proof.PROVED, Action.INSTALL),
        (INSTALL, Proof.OTHER, Action.INSTALL),
        (INSTALL, Proof.UNKNOWN, Action.INSTALL),
        (SIGNAL, Proof.OTHER, Action.PROVE),
        (UPDATE, Proof.OTHER, Action.PROVE),
        (UNINSTALL, Proof.OTHER, Action.REFUSE),
        ("ONCRMDEALADD", Proof.OTHER, Action.REFUSE),
        (SIGNAL, Proof.UNKNOWN, Action.REFUSE),
        (UPDATE, Proof.UNKNOWN, Action.REFUSE),
        (UNINSTALL, Proof.UNKNOWN, Action.REFUSE),
    ],
)
def test_each_event_has_its_action(event: str, proof: Proof, action: Action) -> None:
    assert decide(message(event, **FULL), proof) is action


@pytest.mark.parametrize("missing", ["application_token", "access_token"])
def test_nothing_is_asked_for_a_message_that_lacks_a_token(missing: str) -> None:
    assert decide(message(SIGNAL, **{**FULL, missing: ""}), Proof.OTHER) is Action.REFUSE


@pytest.mark.parametrize("missing", ["application_token", "refresh_token"])
def test_an_installation_without_its_tokens_is_refused(missing: str) -> None:
    assert decide(message(INSTALL, **{**FULL, missing: ""}), Proof.UNKNOWN) is Action.REFUSE
