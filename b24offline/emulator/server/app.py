"""HTTP: addresses, parameters and connections. Everything else happens in the portals."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from waitress.channel import ClientDisconnected  # type: ignore[import-untyped]
from werkzeug.formparser import parse_form_data

from b24offline.emulator.api import (
    ApiError,
    Outcome,
    Params,
    RestRequest,
    admit,
    execute,
    note,
    parse_json,
    parse_pairs,
    parse_query,
    perform,
)
from b24offline.emulator.server.authorize_page import authorize
from b24offline.emulator.server.control import WRITERS
from b24offline.emulator.server.control_read import READERS
from b24offline.emulator.server.fault_injection import JSON_TYPE, ConnectionLostError, Reply, Steps, reply_of, troubled
from b24offline.emulator.server.token_endpoint import grant, portal_of
from b24offline.emulator.server.world import DEFAULT_PORTAL

if TYPE_CHECKING:
    from b24offline.emulator.server.site import Site
    from b24offline.emulator.server.world import World

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]
_HANDLERS: Final = {**READERS, **WRITERS}
_OAUTH_CALL: Final = "oauth.token"


class EmulatorApp:
    """The WSGI application over a world of portals."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request; ClientDisconnected makes the server close the connection without a reply."""
        try:
            reply = self._route(environ)
        except ConnectionLostError:
            _arm_reset(environ)
            raise ClientDisconnected from None
        except ApiError as refusal:
            reply = reply_of(Outcome(refusal.status, refusal.body()))
        length = len(reply.body) if reply.length is None else reply.length
        status = f"{reply.status} {_phrase(reply.status)}"
        headers = [("Content-Type", reply.content_type), ("Content-Length", str(length)), *reply.headers]
        start_response(status, headers)
        return [reply.body]

    def _route(self, environ: Environ) -> Reply:
        parts = [unquote(part) for part in environ["PATH_INFO"].split("/") if part]
        match parts:
            case ["rest", *rest] if rest:
                return self._rest(self._site(DEFAULT_PORTAL), rest, environ)
            case ["portals", name, "rest", *rest] if rest:
                return self._rest(self._site(name), rest, environ)
            case ["oauth", "authorize"]:
                return self._authorize(self._site(DEFAULT_PORTAL), environ)
            case ["portals", name, "oauth", "authorize"]:
                return self._authorize(self._site(name), environ)
            case ["oauth", "token"] | ["portals", _, "oauth", "token"]:
                return self._token(environ)
            case ["control", *rest]:
                return self._control("/".join(rest), environ)
        raise ApiError(404, "NOT_FOUND", "There is nothing at this address")

    def _site(self, name: str) -> Site:
        site = self._world.sites.get(name)
        if site is None:
            raise ApiError(404, "PORTAL_NOT_FOUND", f"There is no portal {name}")
        return site

    def _rest(self, site: Site, rest: list[str], environ: Environ) -> Reply:
        values = _parameters(environ)
        token = str(values.pop("auth", "") or "")
        bearer = environ.get("HTTP_AUTHORIZATION", "")
        if not token and bearer.lower().startswith("bearer "):
            token = bearer[7:].strip()
        webhook = len(rest) == 3
        if len(rest) not in (1, 3):
            raise ApiError(404, "ERROR_METHOD_NOT_FOUND", "Method not found")
        request = RestRequest(rest[-1].lower().removesuffix(".json"), Params(values), token, webhook)
        portal, command_error = site.portal, site.faults.command_error
        armed = site.faults.pick(request.method, values)
        if armed is None:
            return reply_of(execute(portal, request, command_error))
        steps = Steps(
            admit=lambda fault: admit(portal, request, fault=fault),
            perform=lambda fault, overlap: perform(
                portal, request, fault=fault, overlap_seconds=overlap, command_error=command_error
            ),
            skip=lambda fault: note(portal, request, None, fault=fault),
        )
        return troubled(site, armed, steps, _gone(environ))

    def _authorize(self, site: Site, environ: Environ) -> Reply:
        posted = environ["REQUEST_METHOD"] == "POST"
        return authorize(self._world.application, site.portal, Params(_parameters(environ)), posted=posted)

    def _token(self, environ: Environ) -> Reply:
        params = Params(_parameters(environ))
        found = portal_of(self._world.portals, params)
        portal = found or self._world.portals[DEFAULT_PORTAL]
        request = RestRequest(_OAUTH_CALL, Params({}))

        def exchange(fault: str, _overlap: float = 0) -> Outcome:
            outcome = grant(self._world.application, found, params, portal.quirks.oauth_error_status)
            note(portal, request, outcome, fault=fault)
            return outcome

        site = self._world.sites[portal.name]
        armed = site.faults.pick(_OAUTH_CALL, params.values)
        if armed is None:
            return reply_of(exchange(""))
        steps = Steps(
            admit=lambda _fault: None,
            perform=exchange,
            skip=lambda fault: note(portal, request, None, fault=fault),
        )
        return troubled(site, armed, steps, _gone(environ))

    def _control(self, path: str, environ: Environ) -> Reply:
        if not str(environ.get("REMOTE_ADDR", "")).startswith("127."):
            return _json(403, {"error": "The control API answers to this machine only"})
        handler = _HANDLERS.get((environ["REQUEST_METHOD"], path.strip("/")))
        if handler is None:
            known = sorted(" ".join(route) for route in _HANDLERS)
            return _json(404, {"error": f"There is no {environ['REQUEST_METHOD']} {path}", "known": known})
        query = parse_query(environ.get("QUERY_STRING", ""))
        portal = self._site(query.pop("portal", DEFAULT_PORTAL)).portal
        body: Any = query
        raw = _body(environ)
        try:
            if raw.strip():
                sent = json.loads(raw)
                body = {**query, **sent} if isinstance(sent, dict) else sent
            return _json(200, handler(self._world, portal, body))
        except (ValueError, TypeError, AttributeError, LookupError) as reason:
            return _json(400, {"error": f"{type(reason).__name__}: {reason}"})


def _parameters(environ: Environ) -> dict[str, Any]:
    values = parse_query(environ.get("QUERY_STRING", ""))
    if environ["REQUEST_METHOD"] != "POST":
        return values
    content_type = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if content_type == "multipart/form-data":
        _, form, _ = parse_form_data(environ)
        return values | parse_pairs(form.items(multi=True))
    raw = _body(environ)
    if content_type == "application/json" or raw.lstrip()[:1] in (b"{", b"["):
        return values | parse_json(raw)
    return values | parse_query(raw.decode("utf-8", "replace"))


def _body(environ: Environ) -> bytes:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    return bytes(environ["wsgi.input"].read(length)) if length else b""


def _json(status: int, value: Any) -> Reply:
    return Reply(status, json.dumps(value).encode(), JSON_TYPE)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _gone(environ: Environ) -> Callable[[], bool]:
    probe: Callable[[], bool] = environ.get("waitress.client_disconnected", lambda: False)
    return probe


def _arm_reset(environ: Environ) -> None:
    """Make the closing of this connection a reset; without waitress it is an ordinary end."""
    channel = getattr(environ.get("waitress.client_disconnected"), "__self__", None)
    if channel is not None:
        channel.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
