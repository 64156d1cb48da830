"""Looks for what must not be there: tokens anywhere outside the store, customers' fields in messages and logs."""

from __future__ import annotations

import base64
import binascii
import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tests.faults.journal import CUSTOMER

LEDGER_PREFIX: Final = b'"b24offline:'
"""Keys of the ledger, where objects may wait; a command that carries a message never names one."""
TOKEN: Final = re.compile(rb"(?<![0-9a-f])[0-9a-f]{70}(?![0-9a-f])")
"""How the emulator spells every token and secret; nothing else is of that length."""
_BODY: Final = re.compile(rb"body\W{1,12}([A-Za-z0-9+/]{16,}=*)")
_PAUSE_SECONDS: Final = 0.05


def leaks_in(text: bytes, *, private: bool = True) -> set[str]:
    """Return what of "token" and "customer" is in a text, or in a message's body inside of it."""
    found = set()
    for one in (text, *_bodies(text)):
        if TOKEN.search(one):
            found.add("token")
        if private and CUSTOMER.encode() in one:
            found.add("customer")
    return found


def _bodies(text: bytes) -> Iterator[bytes]:
    for match in _BODY.finditer(text):
        try:
            yield base64.b64decode(match.group(1))
        except binascii.Error:
            continue


class Wiretap:
    """Reads every command that a Valkey gets (MONITOR), through its restarts, and keeps the leaks it meets."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.found: set[str] = set()
        self.lines = 0

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """End; what was heard stays in ``found``."""
        self._stopped.set()
        self._thread.join(5)

    def _work(self) -> None:
        while not self._stopped.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=1) as wire:
                    wire.sendall(b"MONITOR\r\n")
                    self._listen(wire)
            except OSError:
                time.sleep(_PAUSE_SECONDS)

    def _listen(self, wire: socket.socket) -> None:
        rest = b""
        while not self._stopped.is_set():
            try:
                chunk = wire.recv(1 << 20)
            except TimeoutError:
                continue
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._look(line)

    def _look(self, line: bytes) -> None:
        self.lines += 1
        for what in leaks_in(line, private=LEDGER_PREFIX not in line):
            words = line.split(b'"', 2)
            self.found.add(f"{what} in a command {words[1].decode() if len(words) > 1 else '?'}")


def in_files(files: Iterable[Path]) -> set[str]:
    """Leaks in files, as "token in worker.log"."""
    return {f"{what} in {file.name}" for file in files if file.is_file() for what in leaks_in(file.read_bytes())}
