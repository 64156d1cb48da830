"""The receiver over HTTP: POST to any path, `GET /healthz`, answers without a body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wrappers import Request, Response

from b24offline.push.form import MAX_BODY_BYTES
from b24offline.push.receiver import MALFORMED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FORM: Final = "application/x-www-form-urlencoded"
HEALTH: Final = "/healthz"
_NOT_FOUND: Final = 404
_TOO_LARGE: Final = 413


class WebApp:
    """A WSGI application. ``receive`` takes a body and returns the status of the answer."""

    def __init__(self, receive: Callable[[bytes], int]) -> None:
        self._receive = receive

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        return Response(status=self._status(environ))(environ, start_response)

    def _status(self, environ: dict[str, Any]) -> int:
        request = Request(environ)
        request.max_content_length = MAX_BODY_BYTES
        if request.method == "GET" and request.path == HEALTH:
            return 200
        if request.method != "POST":
            return _NOT_FOUND
        if request.mimetype != FORM:
            return MALFORMED
        try:
            return self._receive(request.get_data(cache=False, parse_form_data=False))
        except RequestEntityTooLarge:
            return _TOO_LARGE
