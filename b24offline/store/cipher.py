"""Secrets at rest: AES-256-GCM, each bound to the place where it is stored.

The newest key encrypts while all decrypt. The place of a secret (its table, column and row, and for a portal where its
tokens are sent) is authenticated with it: a secret that somebody copies to another row does not open there, and one
whose row names another address does not open either.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from b24offline.errors import WrongKey
from b24offline.private_files import kept_text

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY_FILE: Final = "secret.key"
"""Name of the key's file in the data directory."""

FORM: Final = "1"
"""Version of how a secret is written: this, a full stop, and nonce and ciphertext in url-safe base64.

It is authenticated, too. Another one is a secret that this version cannot open.
"""
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_HOW: Final = (
    "A key is 32 bytes in url-safe base64; make one with "
    "python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'."
)


class Cipher:
    """Encrypts with the first key and decrypts with any of them.

    To rotate, put a new key before the old one, re-encrypt what is stored, then take the old one away. Raise
    WrongKey when there is no key or one is malformed.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise WrongKey(f"No secret key is set. {_HOW}")
        self._ciphers = []
        fernets = []
        for number, key in enumerate(keys, start=1):
            # The error of the library is not chained: its context could show the key.
            raw = _raw_or_none(key)
            if raw is None:
                raise WrongKey(f"Secret key number {number} of {len(keys)} is malformed. {_HOW}")
            self._ciphers.append(AESGCM(_derived(raw)))
            fernets.append(Fernet(key))
        self._unbound = MultiFernet(fernets)

    def __repr__(self) -> str:
        return "Cipher()"

    def encrypt(self, text: str, place: Sequence[str]) -> str:
        """Return the text encrypted with the first key for this place only, as ASCII."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[0].encrypt(nonce, text.encode("utf-8", "surrogatepass"), _authenticated(place))
        return f"{FORM}.{base64.urlsafe_b64encode(nonce + sealed).decode('ascii')}"

    def decrypt(self, secret: str, place: Sequence[str], what: str) -> str:
        """Return the text that was encrypted for this place.

        ``what`` names it in the WrongKey that is raised when no key opens it, or it was encrypted for another place.
        """
        form, _, rest = secret.partition(".")
        with suppress(binascii.Error, ValueError):
            sealed = base64.urlsafe_b64decode(rest) if form == FORM else b""
            for cipher in self._ciphers if len(sealed) > _NONCE_BYTES else ():
                with suppress(InvalidTag):
                    opened = cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _authenticated(place))
                    return opened.decode("utf-8", "surrogatepass")
        raise WrongKey(_does_not_open(what))

    def rotate(self, secret: str, place: Sequence[str], what: str) -> str:
        """Return the same text encrypted with the first key in this form; errors as in `decrypt`.

        It alone also opens a Fernet token, the earlier form, which is bound to no place.
        """
        with suppress(InvalidToken):
            return self.encrypt(self._unbound.decrypt(secret.encode()).decode("utf-8", "surrogatepass"), place)
        return self.encrypt(self.decrypt(secret, place, what), place)


def load_or_create_key(data_dir: str | Path) -> str:
    """Return the key kept in the data directory; make it where there is none.

    Raise WrongKey when the file cannot be made or read, can be read by other users, or holds no key.
    """
    path = Path(data_dir) / KEY_FILE
    try:
        key = kept_text(path, lambda: Fernet.generate_key().decode())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise WrongKey(
            f"The key file {path} cannot be used ({why}). Set B24_DATA_DIR to a folder that this program may write to, "
            f"or B24_SECRET_KEY to a key. {_HOW}"
        ) from None
    if _raw_or_none(key) is None:
        raise WrongKey(f"The key file {path} holds no key. Restore it from a backup. {_HOW}")
    return key


def _raw_or_none(key: str) -> bytes | None:
    """Return the bytes of a key, None for a malformed one."""
    with suppress(ValueError):
        raw = base64.urlsafe_b64decode(key)
        return raw if len(raw) == _KEY_BYTES else None
    return None


def _derived(raw: bytes) -> bytes:
    """Return the key of this form; the configured one is never used directly, so that forms share none."""
    return HKDF(SHA256(), _KEY_BYTES, salt=None, info=f"b24offline store {FORM}".encode()).derive(raw)


def _authenticated(place: Sequence[str]) -> bytes:
    return json.dumps([FORM, *place]).encode("ascii")


def _does_not_open(what: str) -> str:
    return (
        f"The secret key does not open {what}. Set B24_SECRET_KEY to the key it was stored with; to change keys, put "
        "the old one after the new one, separated by a comma. If the keys are right, it was stored in an earlier form "
        "(run b24offline db reencrypt), or its row was changed by another program: authorize the portal again."
    )
