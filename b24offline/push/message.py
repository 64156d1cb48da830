"""What a portal says of itself in a message, and whether that is proved. Pure.

The account id says who is meant, never who sent it. Only the application token proves that, and nothing else of the
message is believed because of it: tokens and addresses in it are proved by those who gave them.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from b24offline.push.form import Form, Malformed, text_of
from b24offline.rest import INSTALLED, SIGNAL, UNINSTALLED, UPDATED

if TYPE_CHECKING:
    from collections.abc import Mapping

_MEMBER: Final = re.compile(r"[A-Za-z0-9]{1,64}")
_EVENT: Final = re.compile(r"[A-Z][A-Z0-9_]{1,63}")
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,512}")


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was sent; nothing of it is proved.

    Attributes:
        event: in upper case.
        member_id: the account that it names.
        application_token: "" where it has none; so are the other tokens.
    """

    event: str
    member_id: str
    application_token: str = field(default="", repr=False)
    access_token: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)


class Proof(Enum):
    """What is known of the sender of a message."""

    PROVED = "proved"
    """Its application token is that of a portal that we serve."""
    OTHER = "other"
    """We serve the portal, and know no token of it, or another one."""
    UNKNOWN = "unknown"
    """We serve no portal of this account."""


class Action(Enum):
    """What is done about a message."""

    WAKE = "wake"
    INSTALL = "install"
    """Its refresh token is exchanged, which proves everything or nothing."""
    BIND = "bind"
    """The application was updated, which ended its bindings."""
    SUSPEND = "suspend"
    PROVE = "prove"
    """Its access token is compared with ours on the portal; then its application token is known."""
    NOTHING = "nothing"
    REFUSE = "refuse"


def message_of(form: Form) -> Message:
    """Return the message of a form. Raise `Malformed`."""
    event, member_id = text_of(form, "event").upper(), text_of(form, "auth", "member_id")
    names = ("application_token", "access_token", "refresh_token")
    tokens = {name: text_of(form, "auth", name) for name in names}
    if not _EVENT.fullmatch(event) or not _MEMBER.fullmatch(member_id):
        raise Malformed("it names no event or no account")
    if not all(token == "" or _TOKEN.fullmatch(token) for token in tokens.values()):
        raise Malformed("a token of it is none")
    return Message(event, member_id, **tokens)


def proved(message: Message, known: Mapping[str, str]) -> tuple[Proof, tuple[str, ...]]:
    """Compare a message's token with those of the portals of its account, in constant time.

    Args:
        message: as it was sent.
        known: portal -> its token, "" where none is known; the portals of the account that the message names.

    Returns:
        What is proved, and the portals that the message is about: where nothing is, all of the account.
    """
    given = message.application_token.encode()
    same = [name for name, token in known.items() if hmac.compare_digest(token.encode(), given) and token]
    if same:
        return Proof.PROVED, tuple(same)
    return (Proof.OTHER, tuple(known)) if known else (Proof.UNKNOWN, ())


def decide(message: Message, proof: Proof) -> Action:
    """Return what is done about a message. Pure."""
    if message.event == INSTALLED:
        return Action.INSTALL if message.refresh_token and message.application_token else Action.REFUSE
    if proof is Proof.PROVED:
        return {SIGNAL: Action.WAKE, UPDATED: Action.BIND, UNINSTALLED: Action.SUSPEND}.get(
            message.event, Action.NOTHING
        )
    if proof is Proof.OTHER and message.event in {SIGNAL, UPDATED}:
        return Action.PROVE if message.access_token and message.application_token else Action.REFUSE
    return Action.REFUSE
