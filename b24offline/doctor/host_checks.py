"""What is on this machine: configuration, data directory, the store and its key, the links to other machines."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from b24offline.config import FILE_SUFFIX, Config, is_loopback, variables
from b24offline.doctor.check import Check, counted, failed, ok, warning
from b24offline.errors import WrongKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from b24offline.store import Store

_LEAST_BYTES: Final = 200 * 1024 * 1024
_PROBE: Final = b"b24offline" * 1000
_ENCRYPTED: Final = ("rediss", "amqps", "unix")


def sources(environ: Mapping[str, str]) -> dict[str, str]:
    """Return setting -> where its value comes from: the environment, or a file; of all that are set."""
    found = {}
    for variable in variables(Config):
        if environ.get(variable.name, "").strip():
            found[variable.name] = "environment"
        elif variable.secret and (path := environ.get(variable.name + FILE_SUFFIX, "").strip()):
            found[variable.name] = f"file {path}"
    return found


def configuration_check(environ: Mapping[str, str]) -> Check:
    """Return the check of a configuration that could be read."""
    found = sources(environ)
    given = [
        f"from the {source}: {', '.join(name for name, its in found.items() if its == source)}"
        for source in dict.fromkeys(found.values())
    ]
    settings = "; ".join(given) or "No setting is given"
    return ok("configuration", f"{settings[0].upper()}{settings[1:]}; all other settings have their defaults.")


def data_dir_check(folder: Path) -> Check:
    """Write into the data directory, as everything that keeps a file there must."""
    name, where = "data directory", folder.resolve()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(_PROBE)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        what = f"{where} cannot be written: {error.strerror}."
        return failed(name, what, "Free space, correct its owner, or set B24_DATA_DIR.")
    free = shutil.disk_usage(folder).free
    if free < _LEAST_BYTES:
        return warning(name, f"Only {free / 1e6:.0f} MB are free at {where}.", "Free space before the disk is full.")
    return ok(name, f"{where} can be written.")


def store_checks(store: Store, url: str) -> Iterator[Check]:
    """Yield the checks of a store that could be opened and written."""
    kind = "SQLite" if url.startswith("sqlite") else "PostgreSQL"
    names = store.portals.names()
    yield ok("store", f"{kind} has the tables of this version, and {counted(len(names), 'portal')}.")
    closed = [name for name in names if not _opens(store, name)]
    if closed:
        yield failed(
            "secret key",
            f"It does not decrypt the secrets of {', '.join(closed[:5])}{' and others' if len(closed) > 5 else ''}.",
            "Set the B24_SECRET_KEY that encrypted them. If it is lost, authorize these portals again.",
        )
    else:
        yield ok("secret key", "It decrypts the secrets of all portals.")


def _opens(store: Store, name: str) -> bool:
    try:
        store.portals.get(name)
        store.tokens.get(name)
    except WrongKey:
        return False
    return True


def link_check(links: Mapping[str, str]) -> Check:
    """Return whether every link to another machine is encrypted. ``links``: setting -> address."""
    plain = [name for name, url in links.items() if not _is_encrypted(url)]
    if plain:
        return warning(
            "links",
            f"{', '.join(plain)} lead to another machine without TLS: objects and tokens are sent unencrypted.",
            "Use rediss://, amqps:// and no sslmode=disable, unless the network is yours alone.",
        )
    return ok("links", "Every link to another machine is encrypted.")


def _is_encrypted(url: str) -> bool:
    parts = urlsplit(url)
    scheme = parts.scheme.partition("+")[0]
    local = scheme == "sqlite" or not parts.hostname or is_loopback(parts.hostname)
    verified = scheme == "postgresql" and "sslmode=disable" not in parts.query  # the store's default
    return local or verified or scheme in _ENCRYPTED
