"""Tables of the durable store. Times are epoch seconds; what is marked secret is encrypted text."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION: Final = 3
"""Version of these tables, kept in the database beside them; `b24offline.migrations` leads from each to the next."""

METADATA: Final = MetaData()

PORTALS: Final = Table(
    "portals",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("member_id", String(64)),
    Column("client_endpoint", Text, nullable=False),
    Column("auth_url", Text, nullable=False),
    Column("client_id", Text, nullable=False),
    Column("client_secret", Text, nullable=False, info={"secret": True}),
    Column("connector", Text, nullable=False),
    Column("access_token", Text, info={"secret": True}),
    Column("refresh_token", Text, info={"secret": True}),
    # The refresh token that came from configuration last: tells a new authorization from the one long used
    # up.
    Column("seeded_token", Text, info={"secret": True}),
    Column("token_version", Integer, nullable=False, default=0),
    Column("expires_at", Double),
    Column("refresh_claimed_until", Double, nullable=False, default=0.0),
    Column("refresh_not_before", Double, nullable=False, default=0.0),
    Column("state", String(32), nullable=False),
    Column("state_reason", Text, nullable=False),
    Column("state_since", Double, nullable=False),
    Column("ledger_generation", BigInteger),
    Column("created_at", Double, nullable=False),
    # Defaults of the database, because processes of the version before write rows while an upgrade is under
    # way.
    Column("state_actor", String(32), nullable=False, server_default=""),
    Column("wish", String(16), nullable=False, server_default="run"),
    Column("wish_since", Double, nullable=False, server_default="0"),
    Column("authorized_at", Double, nullable=False, server_default="0"),
    # The version of the pair whose refresh token was refused: it is not tried again.
    Column("refused_version", Integer),
    # Two names for one queue would poll it twice at once.
    UniqueConstraint("member_id", "client_id", "connector", name="portals_one_name_per_queue"),
)

DEAD_LETTERS: Final = Table(
    "dead_letters",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("portal", String(64), nullable=False),
    Column("record_id", BigInteger, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("event_name", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("pipeline", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("payload", Text, nullable=False, info={"secret": True}),
    Column("created_at", Double, nullable=False),
    Column("ended_at", Double),
)

OPEN_LETTER: Final = Index(
    "dead_letters_open",
    DEAD_LETTERS.c.portal,
    DEAD_LETTERS.c.record_id,
    DEAD_LETTERS.c.pipeline,
    unique=True,
    sqlite_where=DEAD_LETTERS.c.ended_at.is_(None),
    postgresql_where=DEAD_LETTERS.c.ended_at.is_(None),
)
"""One open dead letter for a record and pipeline."""

VERSION: Final = Table(
    "schema_version",
    METADATA,
    Column("only", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
)
