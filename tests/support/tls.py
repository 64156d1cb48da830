"""TLS for tests: certificates made on the spot, and a server that ends TLS in front of one that knows none."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

ADDRESS = "127.0.0.1"
NAME = "db.example"
"""Another name of the same server."""
_POSTGRES_ASKS_FOR_TLS = 8
"""Bytes that a client of PostgreSQL sends before the handshake."""


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate, which is its own authority. ``pem``: its file; ``context``: that of a server."""

    pem: str
    context: ssl.SSLContext


def certificate(folder: Path, *names: str) -> Certificate:
    """Make a certificate for these names and addresses; by default for 127.0.0.1 and `NAME`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "b24offline test")])
    now = datetime.datetime.now(datetime.UTC)
    known = [
        x509.IPAddress(ipaddress.ip_address(each)) if each[0].isdigit() else x509.DNSName(each)
        for each in names or (ADDRESS, NAME)
    ]
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(known), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    pem, secret = folder / "cert.pem", folder / "key.pem"
    pem.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, secret)
    return Certificate(str(pem), context)


class TlsServer:
    """Ends TLS and passes everything on to a port of this machine. ``said``: how many bytes clients confided to it."""

    def __init__(self, shown: Certificate, target: int, *, postgres: bool = False) -> None:
        self._context, self._target, self._postgres = shown.context, target, postgres
        self._listener = socket.create_server((ADDRESS, 0))
        self.port: int = self._listener.getsockname()[1]
        self.said = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:  # ssl.SSLError is one
            if self._postgres:
                client.recv(_POSTGRES_ASKS_FOR_TLS)
                client.sendall(b"S")
            with (
                self._context.wrap_socket(client, server_side=True) as inside,
                socket.create_connection((ADDRESS, self._target)) as server,
            ):
                threading.Thread(target=_pass_on, args=(server, inside), daemon=True).start()
                while piece := inside.recv(65_536):
                    self.said += len(piece)
                    server.sendall(piece)


def _pass_on(server: socket.socket, client: ssl.SSLSocket) -> None:
    with suppress(OSError):
        while piece := server.recv(65_536):
            client.sendall(piece)
        client.shutdown(socket.SHUT_RDWR)
