"""The portal's REST interface: one attempt a call, errors mapped to classes, no policy.

Rate limit, refresh and retries belong to the callers. A token travels in the body only, never in an address, and
is removed from the text of errors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, cast

from b24offline.errors import AnswerTooLarge, Moved, PortalError, UnknownAnswer, Unreachable
from b24offline.rest.bodies import TooLarge, bounded_json
from b24offline.rest.error_mapping import error_from_answer, without_secrets
from b24offline.rest.php_query import php_query
from b24offline.rest.transport import Lost, NotSent, checked_url

if TYPE_CHECKING:
    from b24offline.events import JSON
    from b24offline.rest.transport import Http

MAX_BATCH_COMMANDS: Final = 50
"""The portal refuses a longer batch."""

_METHOD: Final = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")


@dataclass(frozen=True)
class Command:
    """One command of a batch: a method and its parameters, all of them expressible by `php_query`."""

    method: str
    params: Mapping[str, object]


@dataclass(frozen=True)
class BatchAnswer:
    """The reply to a batch; each command's name is in ``results`` or in ``errors``, never in both."""

    results: dict[str, JSON]
    errors: dict[str, PortalError]


class RestClient:
    """Calls the methods of one portal; safe to share between the threads of one process.

    ``portal`` is the name used in errors, ``endpoint`` the address up to and with ``/rest/``. Raise ConfigError for an
    endpoint that is not https, unless its host is a loopback one.
    """

    def __init__(self, portal: str, endpoint: str, http: Http) -> None:
        self.portal = portal
        self._endpoint = checked_url(endpoint, f"client endpoint of portal {portal}").rstrip("/") + "/"
        self._http = http

    def __repr__(self) -> str:
        return f"RestClient({self.portal!r})"

    def within(self, seconds: float) -> RestClient:
        """Return a client of the same portal that waits for an answer no longer than that, and not longer than this."""
        hurried = copy(self)
        hurried._http = replace(self._http, read_timeout_seconds=min(seconds, self._http.read_timeout_seconds))
        return hurried

    def call(self, method: str, params: Mapping[str, object] | None, *, token: str) -> JSON:
        """Call one method once with JSON; return the ``result`` of its reply.

        Raise the PortalError that the reply means; its ``executed`` says whether the call can have taken
        effect. Raise ValueError or TypeError, before anything is sent, for a malformed method name or parameters
        that JSON cannot carry.
        """
        return self._post(method, dict(params or {}), token)

    def batch(self, commands: Mapping[str, Command], *, token: str) -> BatchAnswer:
        """Run 1 to 50 commands in one request, in order.

        An error of one command is in ``errors``; a command that the reply does not mention is there as
        UnknownAnswer. Raise the PortalError of the request as a whole; ValueError, before anything is
        sent, for too many commands, none, or parameters that a query string cannot carry.
        """
        if not 1 <= len(commands) <= MAX_BATCH_COMMANDS:
            raise ValueError(f"a batch holds 1 to {MAX_BATCH_COMMANDS} commands, not {len(commands)}")
        lines = {name: _command_line(command) for name, command in commands.items()}
        result = self._post("batch", {"halt": 0, "cmd": lines}, token)
        if not isinstance(result, dict):
            raise UnknownAnswer(self.portal, "batch", 200, "", "the result of a batch is no map")
        results, refusals = self._part(result, "result"), self._part(result, "result_error")
        succeeded = [name for name in commands if name in results and name not in refusals]
        return BatchAnswer(
            results={name: results[name] for name in succeeded},
            errors={
                name: self._error(command.method, 200, refusals.get(name), token)
                or UnknownAnswer(self.portal, command.method, 200, "", "the command's error has an unknown form")
                for name, command in commands.items()
                if name not in succeeded
            },
        )

    def _post(self, method: str, params: dict[str, object], token: str) -> JSON:
        """Send one request and return the result."""
        url = self._endpoint + _checked_method(method)
        if "auth" in params:
            raise ValueError("the parameter auth is the token's place; pass the token as token=")
        content = json.dumps({**params, "auth": token}, allow_nan=False).encode()
        failure: PortalError
        try:
            raw = self._http.exchange("POST", url, body=content)
            body = bounded_json(raw.content)
        except TooLarge as error:
            failure = AnswerTooLarge(self.portal, method, None, "", str(error))
        except NotSent as error:
            failure = Unreachable(self.portal, method, None, "", str(error))
        except Lost as error:
            failure = UnknownAnswer(self.portal, method, None, "", str(error))
        else:
            if raw.redirect_host and 300 <= raw.status < 400:
                raise Moved(self.portal, method, raw.status, "", f"to host {raw.redirect_host}")
            refusal = self._error(method, raw.status, body, token)
            if refusal is None:
                return cast("dict[str, JSON]", body)["result"]
            failure = refusal
        raise failure

    def _error(self, method: str, status: int, body: object, token: str) -> PortalError | None:
        """Return the error a body means, without the token in its text."""
        if isinstance(body, Mapping) and "error" in body and token:
            body = without_secrets(body, token)
        return error_from_answer(self.portal, method, status, body)

    def _part(self, result: dict[str, JSON], key: str) -> dict[str, JSON]:
        """Return one map of a batch's result; PHP sends a list for an empty one and for keys 0, 1, 2..."""
        part = result.get(key, [])
        if isinstance(part, list):
            return {str(index): value for index, value in enumerate(part)}
        if isinstance(part, dict):
            return part
        raise UnknownAnswer(self.portal, "batch", 200, "", f"{key} is neither a map nor a list")


def _command_line(command: Command) -> str:
    if "auth" in command.params:
        raise ValueError("the commands of a batch run with the batch's token")
    query = php_query(command.params)
    return _checked_method(command.method) + (f"?{query}" if query else "")


def _checked_method(method: str) -> str:
    if not _METHOD.fullmatch(method):
        raise ValueError(f"{method!r} is no name of a method")
    return method
