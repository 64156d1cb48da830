"""Tokens of one portal: access tokens that live an hour, refresh tokens that are replaced at every use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

ACCESS_SECONDS: Final = 3600
REFRESH_SECONDS: Final = 180 * 24 * 3600
CODE_SECONDS: Final = 30
KEPT_ACCESS_TOKENS: Final = 2000
"""Expired access tokens are told from unknown ones while they are among the newest; valid ones stay beyond that."""


@dataclass(frozen=True, slots=True)
class TokenPair:
    """A new access token with its expiry (epoch seconds) and the refresh token that replaces the old one."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires: int


class Tokens:
    """The tokens of one application on one portal. `new_token` makes up token texts."""

    def __init__(self, new_token: Callable[[], str], refresh_token: str, now: float) -> None:
        self._new_token = new_token
        self._access: dict[str, float] = {}
        self._refresh: dict[str, float] = {refresh_token: now + REFRESH_SECONDS}
        self._codes: dict[str, float] = {}
        self.current_refresh_token = refresh_token
        self.refreshes = 0

    def issue_access(self, now: float) -> str:
        """Return a further access token, as another process of the application would have got it."""
        token = self._new_token()
        self._access[token] = int(now) + ACCESS_SECONDS
        while len(self._access) > KEPT_ACCESS_TOKENS and not self.valid(oldest := next(iter(self._access)), now):
            del self._access[oldest]
        return token

    def knows(self, token: str) -> bool:
        """Return whether the access token was issued here, expired or not."""
        return token in self._access

    def valid(self, token: str, now: float) -> bool:
        """Return whether the access token works."""
        return self._access.get(token, 0.0) > now

    def owns(self, refresh_token: str) -> bool:
        """Return whether the refresh token was issued here, replaced or not."""
        return refresh_token in self._refresh

    def owns_code(self, code: str) -> bool:
        """Return whether the authorization code was issued here."""
        return code in self._codes

    def refresh(self, refresh_token: str, now: float, grace_seconds: float) -> TokenPair | None:
        """Exchange a refresh token for a new pair; None when it is expired, replaced or revoked."""
        if self._refresh.get(refresh_token, 0.0) <= now:
            return None
        self._refresh[refresh_token] = min(self._refresh[refresh_token], now + grace_seconds)
        self.refreshes += 1
        return self._pair(now)

    def new_code(self, now: float) -> str:
        """Return an authorization code, good once and for 30 seconds."""
        code = self._new_token()
        self._codes[code] = now + CODE_SECONDS
        return code

    def exchange(self, code: str, now: float) -> TokenPair | None:
        """Exchange an authorization code for a pair; the refresh token before it stops working."""
        if self._codes.pop(code, 0.0) <= now:
            return None
        self.revoke(now)
        return self._pair(now)

    def expire_access(self) -> int:
        """Let all access tokens expire now and return how many were known."""
        self._access = dict.fromkeys(self._access, 0.0)
        return len(self._access)

    def revoke(self, now: float) -> None:
        """Let no refresh token work any more."""
        self._refresh = {token: min(until, now) for token, until in self._refresh.items()}

    def _pair(self, now: float) -> TokenPair:
        access = self.issue_access(now)
        refresh = self._new_token()
        self._refresh[refresh] = now + REFRESH_SECONDS
        self.current_refresh_token = refresh
        return TokenPair(access, refresh, int(now) + ACCESS_SECONDS)
