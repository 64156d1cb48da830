"""Secrets at rest: Fernet keys, the newest of which encrypts while all decrypt."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from b24offline.errors import WrongKey
from b24offline.private_files import kept_text

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY_FILE: Final = "secret.key"
"""Name of the key's file in the data directory."""

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
        fernets = []
        for number, key in enumerate(keys, start=1):
            # The library's error is not chained: its context could show the key.
            fernet = _fernet_or_none(key)
            if fernet is None:
                raise WrongKey(f"Secret key number {number} of {len(keys)} is malformed. {_HOW}")
            fernets.append(fernet)
        self._fernet = MultiFernet(fernets)

    def __repr__(self) -> str:
        return "Cipher()"

    def encrypt(self, text: str) -> str:
        """Return the text encrypted with the first key, as ASCII."""
        return self._fernet.encrypt(text.encode("utf-8", "surrogatepass")).decode("ascii")

    def decrypt(self, secret: str, what: str) -> str:
        """Return the text; ``what`` names it in the WrongKey that is raised when no key opens it."""
        opened = None
        with suppress(InvalidToken):
            opened = self._fernet.decrypt(secret.encode())
        if opened is None:
            raise WrongKey(_does_not_open(what))
        return opened.decode("utf-8", "surrogatepass")

    def rotate(self, secret: str, what: str) -> str:
        """Return the same text encrypted with the first key; errors as in `decrypt`."""
        return self.encrypt(self.decrypt(secret, what))


def load_or_create_key(data_dir: str | Path) -> str:
    """Return the key kept in the data directory; make it where there is none.

    Raise WrongKey when the file cannot be made or read, can be read by other users, or holds no key.
    """
    path = Path(data_dir) / KEY_FILE
    try:
        key = kept_text(path, lambda: Fernet.generate_key().decode())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise WrongKey(
            f"The key file {path} cannot be used ({why}). Set B24_DATA_DIR to a folder that this program may write to, "
            f"or B24_SECRET_KEY to a key. {_HOW}"
        ) from None
    if _fernet_or_none(key) is None:
        raise WrongKey(f"The key file {path} holds no key. Restore it from a backup. {_HOW}")
    return key


def _fernet_or_none(key: str) -> Fernet | None:
    try:
        return Fernet(key)
    except (ValueError, TypeError):
        return None


def _does_not_open(what: str) -> str:
    return (
        f"The secret key does not open {what}. Set B24_SECRET_KEY to the key it was stored with; to change "
        "keys, put the old one after the new one, separated by a comma."
    )
