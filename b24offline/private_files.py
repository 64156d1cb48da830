"""Files that only their owner reads, such as a key or a password: made once, then kept."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def kept_text(path: Path, make: Callable[[], str]) -> str:
    """Return what the file holds, less white space around it. Make file (0600) and folder (0700) where they are not.

    Of several processes that start at once one makes it and all return the same. Raise PermissionError where other
    users of the machine can read it, OSError where it can be neither made nor read, ValueError where it is no text.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        _create(path, make())
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o007:
            raise PermissionError(errno.EACCES, "other users can read it; chmod 600 it, and replace what it holds")
        return file.read().decode("ascii").strip()


def _create(path: Path, text: str) -> None:
    """Put a new file in place in one step, unless another process was faster."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, refuses to replace the file of the process that was faster.
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
