"""Waits for the address that the portal sends a person to: from the browser on this machine, or pasted by hand."""

from __future__ import annotations

import os
import selectors
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import click

from b24offline.errors import WrongRedirect

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_BYTES: Final = 16_384
_REQUEST_SECONDS: Final = 5.0
"""How long a browser may take to send its request."""
_PAGE: Final = (
    '<!doctype html><meta charset="utf-8"><title>b24offline</title>'
    '<body style="font:16px/1.5 system-ui,sans-serif;max-width:30rem;margin:15vh auto;padding:0 1rem">'
    "<h1>{title}</h1><p>{text}</p>"
)
_TAKEN: Final = _PAGE.format(title="Authorized", text="The terminal shows the result. You can close this page.")


class Redirects:
    """A listener on 127.0.0.1, where the port is free, and the lines of standard input."""

    def __init__(self, port: int) -> None:
        self._listener: socket.socket | None = None
        try:
            self._listener = socket.create_server(("127.0.0.1", port))
        except OSError:
            return
        self.port = self._listener.getsockname()[1]

    @property
    def listening(self) -> bool:
        """Whether the browser can reach this process."""
        return self._listener is not None

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.close()

    def wait(self, code_of: Callable[[str], str], seconds: float) -> str:
        """Return the code of the first address that has one. Raise ClickException when none comes in time.

        ``code_of`` raises WrongRedirect for any other address: it is shown, and the wait goes on.
        """
        deadline = time.monotonic() + seconds
        with selectors.SelectSelector() as selector:
            if self._listener is not None:
                selector.register(self._listener, selectors.EVENT_READ, self._from_browser)
            _register_input(selector)
            while selector.get_map() and (left := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    try:
                        if code := key.data(code_of, selector):
                            return str(code)
                    except WrongRedirect as error:
                        click.echo(str(error), err=True)
        raise click.ClickException(
            f"Nobody authorized the application within {seconds:.0f} s. Run the command again."
            if deadline <= time.monotonic()
            else "No address was pasted, and no browser can reach this process. Run the command again."
        )

    def _from_browser(self, code_of: Callable[[str], str], _selector: object) -> str:
        if self._listener is None:
            return ""
        connection, _ = self._listener.accept()
        with connection:
            try:
                connection.settimeout(_REQUEST_SECONDS)
                words = _head(connection).split(b" ", 2)
                if len(words) < 3 or words[0] != b"GET" or b"?" not in words[1]:
                    _reply(connection, "404 Not Found", _PAGE.format(title="Nothing here", text=""))
                    return ""
                return self._taken(connection, words[1].decode("ascii", "replace"), code_of)
            except OSError:
                return ""  # the browser left before it asked, or before it was answered

    def _taken(self, connection: socket.socket, target: str, code_of: Callable[[str], str]) -> str:
        try:
            code = code_of(target)
        except WrongRedirect as error:
            _reply(connection, "400 Bad Request", _PAGE.format(title="Not authorized", text=str(error)))
            raise
        with suppress(OSError):  # the code counts, not the page
            _reply(connection, "200 OK", _TAKEN)
        return code


def _register_input(selector: selectors.BaseSelector) -> None:
    with suppress(OSError, ValueError):  # standard input may be closed
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ, _from_input)


def _from_input(code_of: Callable[[str], str], selector: selectors.BaseSelector) -> str:
    number = sys.stdin.fileno()
    line = b""
    while not line.endswith(b"\n") and len(line) < _MOST_BYTES and (piece := os.read(number, 1)):
        line += piece
    if not line:
        selector.unregister(number)
        return ""
    return code_of(line.decode("utf-8", "replace")) if line.strip() else ""


def _head(connection: socket.socket) -> bytes:
    """Return what the browser sent, up to the end of its head or of our patience."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _MOST_BYTES and (piece := connection.recv(4096)):
        head += piece
    return head


def _reply(connection: socket.socket, status: str, page: str) -> None:
    body = page.encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
