"""Everything this package raises, and for each class who must act.

A class says in ``actor`` who must act, and in ``advice`` what to do.

``executed`` tells whether the portal can have carried out the call: ``"no"`` after a clean rejection or when nothing
was sent, ``"unknown"`` when the answer was lost or not understood. What is unknown must never be repeated blindly.

The portal's own text is in ``description``. It is quoted in the message only where it cannot hold values that the
caller sent, so that messages may go to logs.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Actor = Literal["nobody", "operator", "portal administrator", "developer"]
"""Who must act before the same thing can succeed; ``"nobody"`` means that it passes by itself."""

Executed = Literal["no", "unknown"]
"""Whether the portal can have carried out a call that brought no result."""

_QUOTED_CHARACTERS = 200


class B24OfflineError(Exception):
    """Root of the tree: whatever this package raises on purpose."""

    actor: ClassVar[Actor] = "developer"


class ConfigError(B24OfflineError):
    """A setting is wrong, missing or contradicts another one."""

    actor: ClassVar[Actor] = "operator"


class BrokerUnavailable(B24OfflineError):
    """The broker does not take messages; the sweep sends what was not sent when it is back."""

    actor: ClassVar[Actor] = "operator"


class StoreError(B24OfflineError):
    """The durable store refuses, or cannot do, what was asked of it."""

    actor: ClassVar[Actor] = "operator"


class StoreUnavailable(StoreError):
    """Our database does not answer, or is locked; it passes when the database is back."""


class UnknownPortal(StoreError):
    """No portal of this name is in the store."""


class PortalExists(StoreError):
    """A portal cannot be added: its name, or its queue under another name, is in the store already."""


class WrongKey(StoreError):
    """The secret key is malformed, or is not the one that encrypted what the store holds."""


class MemberMismatch(StoreError):
    """A portal's name is recorded for one Bitrix24 account, and another one answered."""


class EndpointMismatch(StoreError):
    """The authorization server names another endpoint for a portal than the stored one; nothing is sent to either."""


class UnknownDeadLetter(StoreError):
    """No dead letter of this number is in the store."""


class WrongRedirect(B24OfflineError):
    """An address that was pasted, or sent by a browser, does not carry the code that was asked for."""

    actor: ClassVar[Actor] = "operator"


class LedgerClockBehind(B24OfflineError):
    """The mirror holds a read ahead of the ledger's clock, which was set back; it passes when that has caught up."""

    actor: ClassVar[Actor] = "operator"

    def __init__(self, portal: str, what: str, behind_seconds: float) -> None:
        super().__init__(portal, what, behind_seconds)
        self.portal, self.what, self.behind_seconds = portal, what, behind_seconds

    def __str__(self) -> str:
        return (
            f"Portal {self.portal}: the mirror's read of {self.what} is {self.behind_seconds:.0f} s ahead of the "
            "ledger's clock. The clock of its Redis was set back: the event waits until it has caught up."
        )


class ClaimNeeded(B24OfflineError):
    """At the first poll, reserved records belong to no batch of this deployment: a person must say whose they are.

    Raised instead of polling; nothing was reserved.
    """

    actor: ClassVar[Actor] = "operator"

    def __init__(self, portal: str, connector: str) -> None:
        super().__init__(portal, connector)
        self.portal, self.connector = portal, connector

    def __str__(self) -> str:
        return (
            f"Portal {self.portal} is not polled: before this deployment's first poll, records were reserved under the "
            f"connector {self.connector} by another one. If that is gone for good: b24offline portal claim "
            f"{self.portal}. If not, give this one a connector of its own (B24_CONNECTOR, portal add --connector)."
        )


class RateLimited(B24OfflineError):
    """The call was not sent: the rate limit asks for a longer wait than the caller accepts.

    ``wait_seconds`` says when to try again. Does not count as an attempt.
    """

    actor: ClassVar[Actor] = "nobody"

    def __init__(self, portal: str, wait_seconds: float) -> None:
        super().__init__(portal, wait_seconds)
        self.portal, self.wait_seconds = portal, wait_seconds

    def __str__(self) -> str:
        return f"Portal {self.portal} may be called again in {self.wait_seconds:.1f} s; nothing was sent."


class PortalError(B24OfflineError):
    """A REST call brought no result.

    ``portal`` and ``method`` name the call, ``status`` is the HTTP status (None when there was none), ``code`` the
    portal's error code as text (numbers too; ``""`` when empty or absent), ``description`` the portal's own text.
    """

    executed: ClassVar[Executed] = "no"
    happened: ClassVar[str] = "failed"
    advice: ClassVar[str] = ""
    quotes_description: ClassVar[bool] = True

    def __init__(self, portal: str, method: str, status: int | None, code: str, description: str) -> None:
        # All arguments go to the base, so that the error survives pickling between a pool's processes.
        super().__init__(portal, method, status, code, description)
        self.portal, self.method = portal, method
        self.status, self.code, self.description = status, code, description

    def __str__(self) -> str:
        facts = []
        if self.status is not None:
            facts.append(f"HTTP {self.status}")
        if self.code:
            facts.append(_printable(self.code))
        if self.description and self.quotes_description:
            facts.append(_printable(self.description))
        brackets = f" ({', '.join(facts)})" if facts else ""
        advice = f" {self.advice}" if self.advice else ""
        return f"{self.method} on portal {self.portal} {self.happened}{brackets}.{advice}"

    def __repr__(self) -> str:
        # The default would print the description, which may hold what the caller sent.
        return f"{type(self).__name__}({str(self)!r})"


def _printable(text: str) -> str:
    """Return foreign text on one line, short enough for a log."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * _QUOTED_CHARACTERS]).split())
    return line if len(line) <= _QUOTED_CHARACTERS else line[:_QUOTED_CHARACTERS] + "..."


class Unreachable(PortalError):
    """Nothing was sent: the name did not resolve, the connection was refused, or TLS failed."""

    actor: ClassVar[Actor] = "nobody"
    happened: ClassVar[str] = "was not sent: no connection"
    advice: ClassVar[str] = "It is tried again later; if this lasts, check DNS, the network and the certificates."


class EndpointRefused(PortalError):
    """The stored address of the portal is not one that may get a token; nothing was sent."""

    actor: ClassVar[Actor] = "operator"
    happened: ClassVar[str] = "was not sent: the stored address of the portal may not be called"
    advice: ClassVar[str] = "Give the right one: b24offline portal set-url NAME --url ADDRESS."


class UnknownAnswer(PortalError):
    """The request went out, and what came back is nothing, not an answer, or not complete."""

    actor: ClassVar[Actor] = "nobody"
    executed: ClassVar[Executed] = "unknown"
    happened: ClassVar[str] = "got no usable answer"
    advice: ClassVar[str] = "The portal may have executed it: check before repeating it."


class AnswerTooLarge(UnknownAnswer):
    """The answer has more bytes or elements than we read, and was dropped."""

    actor: ClassVar[Actor] = "operator"
    happened: ClassVar[str] = "got an answer that is too large"
    advice: ClassVar[str] = "Nothing is lost: smaller parts are asked for. Find out what makes its records so large."


class ServerError(UnknownAnswer):
    """The portal says that it failed itself (500 and other 5xx with an error body)."""

    happened: ClassVar[str] = "failed inside the portal"


class Moved(PortalError):
    """A redirect, as a renamed portal sends; it is not followed, since the token would go with it."""

    actor: ClassVar[Actor] = "operator"
    executed: ClassVar[Executed] = "unknown"
    happened: ClassVar[str] = "was answered with a redirect, which is not followed"
    advice: ClassVar[str] = "If the portal was renamed, confirm its new address: b24offline portal set-url."


class QueryLimitExceeded(PortalError):
    """Too many requests from this address (503); nothing was executed."""

    actor: ClassVar[Actor] = "nobody"
    happened: ClassVar[str] = "was refused: too many requests"
    advice: ClassVar[str] = "The rate limiter slows down by itself."


class OperationTimeLimit(PortalError):
    """One method used up its time (429). ``reset_at``: when it eases, in epoch seconds, None when that is unknown."""

    actor: ClassVar[Actor] = "nobody"
    happened: ClassVar[str] = "was refused: this method used up its time"
    advice: ClassVar[str] = "The method pauses by itself, others go on."
    reset_at: float | None = None


class Overloaded(PortalError):
    """The vendor blocked REST for this portal by hand (OVERLOAD_LIMIT)."""

    actor: ClassVar[Actor] = "operator"
    happened: ClassVar[str] = "was refused: REST is blocked for overload"
    advice: ClassVar[str] = "Find what overloads the portal, then ask the vendor's support to lift the block."


class ExpiredToken(PortalError):
    """The access token has expired; the call was not executed, so a refresh and one replay are safe."""

    actor: ClassVar[Actor] = "nobody"
    happened: ClassVar[str] = "was refused: the access token has expired"
    advice: ClassVar[str] = "It is refreshed and the call replayed."


class AuthLost(PortalError):
    """The authorization is gone: tokens revoked, application removed, or the refresh token too old."""

    actor: ClassVar[Actor] = "portal administrator"
    happened: ClassVar[str] = "was refused: the authorization is lost"
    advice: ClassVar[str] = "Authorize the application again: b24offline auth PORTAL-ADDRESS."


class AccessDenied(PortalError):
    """A method refuses the user whose token this is."""

    actor: ClassVar[Actor] = "portal administrator"
    happened: ClassVar[str] = "was refused: access denied"
    advice: ClassVar[str] = "Give the application's user the rights this method needs."


class NotAdministrator(AccessDenied):
    """The user may not use the application, or is no administrator as the event methods ask."""

    happened: ClassVar[str] = "was refused: the application's user lacks administrator rights"
    advice: ClassVar[str] = "Make that user an administrator again, and check that the plan still includes REST."


class PlanTooSmall(PortalError):
    """The portal's plan does not include a feature (WRONG_LICENSE)."""

    actor: ClassVar[Actor] = "portal administrator"
    happened: ClassVar[str] = "was refused: the portal's plan does not include it"
    advice: ClassVar[str] = "A plan with rest_offline_extended and rest_auth_connector is needed."


class WrongAuthType(PortalError):
    """The method wants an application's token and got a webhook."""

    actor: ClassVar[Actor] = "operator"
    happened: ClassVar[str] = "was refused: it needs the authorization of an application, not a webhook"
    advice: ClassVar[str] = "Configure a local or marketplace application with OAuth."


class InsufficientScope(PortalError):
    """The application was not granted a scope that the method needs."""

    actor: ClassVar[Actor] = "portal administrator"
    happened: ClassVar[str] = "was refused: the application lacks a scope"
    advice: ClassVar[str] = "Add the scope to the application and install it again."


class PortalGone(PortalError):
    """The account was deleted."""

    actor: ClassVar[Actor] = "operator"
    happened: ClassVar[str] = "was refused: the portal was deleted"
    advice: ClassVar[str] = "Remove it (b24offline portal remove), or try it once more (portal resume)."


class BadRequest(PortalError):
    """The arguments were refused; the same call will be refused again."""

    happened: ClassVar[str] = "was refused: wrong arguments"
    advice: ClassVar[str] = "Correct the call; the portal's text is in the error's description."
    quotes_description: ClassVar[bool] = False


class BatchRefused(BadRequest):
    """A batch is too long, or holds a method that may not be in one."""

    happened: ClassVar[str] = "was refused inside a batch"
    advice: ClassVar[str] = "Send at most 50 commands, and call this method on its own."


class MethodNotFound(PortalError):
    """The portal knows no such method."""

    happened: ClassVar[str] = "was refused: there is no such method"
    advice: ClassVar[str] = "Correct the method's name."


class ObjectNotFound(PortalError):
    """The object that was asked for does not exist, or not any more."""

    actor: ClassVar[Actor] = "nobody"
    happened: ClassVar[str] = "found no such object"
    quotes_description: ClassVar[bool] = False


class RefusedByMethod(PortalError):
    """An error that only the method itself can explain."""

    happened: ClassVar[str] = "was refused by the method"
    advice: ClassVar[str] = "The portal's text is in the error's description."
    quotes_description: ClassVar[bool] = False


class AuthServerError(PortalError):
    """The authorization server brought no new pair of tokens, for a reason that is not the grant."""

    actor: ClassVar[Actor] = "nobody"
    happened: ClassVar[str] = "was refused by the authorization server"
    advice: ClassVar[str] = "It is tried again later."


class AuthServerUnavailable(AuthServerError):
    """Network failure, 5xx, or something that is not an answer; a pair may have been issued and lost."""

    executed: ClassVar[Executed] = "unknown"
    happened: ClassVar[str] = "got no usable answer from the authorization server"
    advice: ClassVar[str] = "It is tried again later with the refresh token in the store."


class ClientRejected(AuthServerError):
    """The authorization server does not know this client id with this secret."""

    actor: ClassVar[Actor] = "operator"
    happened: ClassVar[str] = "was refused: wrong client id or client secret"
    advice: ClassVar[str] = (
        "Copy both from the application's page in the portal: into B24_CLIENT_SECRET, or for portals added by command "
        "with b24offline portal rotate-secret."
    )


class CodeRefused(AuthServerError):
    """The authorization server does not take the code: too old, used before, or of another application."""

    actor: ClassVar[Actor] = "operator"
    happened: ClassVar[str] = "was refused: the code is older than 30 s, was used before, or is another application's"
    advice: ClassVar[str] = "Run the command again; if you paste the address, do so within 30 s."


class AuthHostRefused(AuthServerError):
    """The authorization address is not on a host that may get tokens; nothing was sent."""

    actor: ClassVar[Actor] = "operator"
    happened: ClassVar[str] = "was not sent: the host of the authorization address is not in B24_AUTH_HOSTS"
    advice: ClassVar[str] = "Add it there if it is the vendor's or yours, and restart."


class PaymentRequired(AuthServerError):
    """The application, or the portal's plan, is not paid for."""

    actor: ClassVar[Actor] = "portal administrator"
    happened: ClassVar[str] = "was refused: payment required"
    advice: ClassVar[str] = "Renew the application's subscription or the portal's plan."
