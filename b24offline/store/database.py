"""Engines for the database that store and mirror share: SQLite in one file, or PostgreSQL.

Make an engine per process, after fork.
"""

from __future__ import annotations

import os
import sqlite3
import ssl
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from sqlalchemy import Double, create_engine, event, extract, func, text
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from b24offline.errors import ConfigError, StoreError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import URL, ColumnElement, Connection, Engine, Table

_BUSY_SECONDS: Final = 30.0
_POSTGRES_WAITS: Final[Mapping[str, int]] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""Limits of libpq, in seconds, a count and milliseconds; its defaults block a worker for minutes or hours."""
_LOCAL: Final = frozenset({"", "localhost", "127.0.0.1", "::1"})
_SCHEMA_LOCK: Final = 0x62323466
"""Number of the advisory lock under which PostgreSQL's schema is created."""
_UNIX_EPOCH_JULIAN: Final = 2_440_587.5
"""The Julian day of 1970-01-01."""


def make_engine(url: str, ca_file: str | None = None) -> Engine:
    """Return an engine for a ``sqlite:///file`` or ``postgresql://`` URL.

    SQLite is opened with a write-ahead log, full durability, a busy timeout of 30 s and mode 0600 for a new
    file (its folder is made too); PostgreSQL with a check of each connection before use, and with bounded waits
    for a server that has vanished (the URL may name others). A server on another machine must show a certificate for
    its name, signed by one of ``ca_file`` or of the system, unless the URL says ``sslmode=disable``. Raise ConfigError
    for another URL, or when the file cannot be made.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "postgresql":
        return create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={
                # Of a database in SQL_ASCII the driver would return bytes.
                "client_encoding": "utf8",
                **{name: value for name, value in _POSTGRES_WAITS.items() if name not in parsed.query},
                **verification(parsed, ca_file),
            },
        )
    if parsed.database and parsed.database != ":memory:":
        _create_private(Path(parsed.database))
    parsed = parsed.set(drivername="sqlite+pysqlite")
    engine = create_engine(parsed, hide_parameters=True, connect_args={"timeout": _BUSY_SECONDS})
    event.listen(engine, "connect", _configure_sqlite)
    return engine


def verification(url: URL, ca_file: str | None) -> dict[str, str]:
    """Return the parameters of libpq that make it verify a server; none for one on this machine that asks for none.

    Left alone it encrypts for anybody who answers, and does without encryption where the server wants none.
    """
    named = url.query.get("host", url.host or "")
    hosts = {named} if isinstance(named, str) else set(named)
    is_local = all(host.startswith("/") or host in _LOCAL for host in hosts)
    if url.query.get("sslmode") == "disable" or (is_local and "sslmode" not in url.query):
        return {}
    authorities = ca_file or ssl.get_default_verify_paths().cafile or "system"
    return {"sslmode": "verify-full", **({} if "sslrootcert" in url.query else {"sslrootcert": authorities})}


@contextmanager
def connected(engine: Engine) -> Iterator[Connection]:
    """Yield a connection to read with. Errors of the database are raised as in `transaction`."""
    with _translated(), engine.connect() as connection:
        yield connection


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Yield a connection whose work is committed at the end.

    Raise StoreUnavailable when the database does not answer or lacks what is asked for, and StoreError when it refuses
    the values: those would be refused again.
    """
    with _translated(), engine.begin() as connection:
        yield connection


@contextmanager
def _translated() -> Iterator[None]:
    """Replace the database's errors by ours, which name the kind alone: the text of the original quotes rows."""
    try:
        yield
    except (DataError, IntegrityError) as error:
        raise StoreError(f"The database refuses these values: {type(error.orig).__name__}.") from None
    except OverflowError:
        raise StoreError("The database refuses these values: a number is too large.") from None
    except DBAPIError as error:
        why = type(error.orig).__name__
        raise StoreUnavailable(f"The database cannot be used: {why}. Check B24_DATABASE_URL.") from None
    except PoolTimeout:
        raise StoreUnavailable("The database cannot be used: all connections are busy for too long.") from None


def now_in(engine: Engine) -> ColumnElement[float]:
    """Return epoch seconds by the clock that all processes share: the server's, or with SQLite the machine's."""
    if engine.dialect.name == "postgresql":
        return sql_cast(extract("epoch", func.clock_timestamp()), Double)
    return (func.julianday("now", type_=Double) - _UNIX_EPOCH_JULIAN) * 86_400.0


def begin_exclusive(connection: Connection) -> None:
    """Begin a transaction that shuts out every other one begun here, until it ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _SCHEMA_LOCK})
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def insert_into(engine: Engine, table: Table) -> sqlite.Insert:
    """Return an insert of the engine's dialect; both have the same ``on_conflict_do_...``."""
    if engine.dialect.name == "postgresql":
        return cast("sqlite.Insert", postgresql.insert(table))
    return sqlite.insert(table)


def storable(words: str) -> str:
    """Return foreign text without what a text column refuses: NUL, and halves of surrogate pairs."""
    return words.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _parsed(url: str) -> URL:
    parsed = None
    with suppress(ArgumentError):
        parsed = make_url(url)
    if parsed is None or parsed.get_backend_name() not in {"sqlite", "postgresql"}:
        # The URL is not shown: it may hold a password.
        raise ConfigError(
            "The database URL is neither SQLite nor PostgreSQL. Use one like "
            "sqlite:////var/lib/b24offline/b24.db or postgresql://user:password@host/database."
        )
    return parsed


def _create_private(path: Path) -> None:
    """Create an empty file that only its owner reads; SQLite gives its mode to the log files beside it."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        raise ConfigError(
            f"The database file {path} cannot be made ({error.strerror}). Let B24_DATABASE_URL or B24_DATA_DIR name a "
            "folder that this program may write to."
        ) from None


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    """Prepare a new connection."""
    connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_SECONDS * 1000)}")
    connection.execute("PRAGMA synchronous = FULL")
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        # The first switch needs the file alone, and SQLite does not always wait its busy timeout for that.
        with suppress(sqlite3.OperationalError):
            if connection.execute("PRAGMA journal_mode = WAL").fetchone() in {("wal",), ("memory",)}:
                return
        if time.monotonic() > deadline:
            raise ConfigError(
                "The SQLite database cannot switch to a write-ahead log. Put it on a local file system and "
                "let no other program lock it."
            )
        time.sleep(0.02)
