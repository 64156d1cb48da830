"""The schema number of the ledger: checked before anything starts, and the reset when it is another one.

Each portal's fencing hash carries the number. The scripts refuse a ledger of another schema by themselves
(`scripts/prelude.lua`), so a process that this check did not stop changes nothing either.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from b24offline import contract, keys
from b24offline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from redis import Redis

_AT_ONCE: Final = 1000


class LedgerSchemaMismatch(ConfigError):
    """A portal's ledger has the schema of another version; this one does not touch it."""

    def __init__(self, portal: str, found: str, known: int) -> None:
        super().__init__(portal, found, known)
        self.portal = portal
        self.found = found
        self.known = known

    def __str__(self) -> str:
        return (
            f"Portal {self.portal}: its ledger has schema {self.found}, this version works on schema {self.known}. "
            "Stop all processes of the other version, run b24offline ledger reset, then start this version: "
            "open work is adopted from the portal and runs again."
        )


def other_schema(redis: Redis, key_prefix: str, portals: Iterable[str]) -> LedgerSchemaMismatch | None:
    """Return the error to raise for the first of the portals whose ledger has another schema, or None."""
    names = list(portals)
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hget(keys.fencing(keys.stem(key_prefix, name)), "schema")
        schemas = pipe.execute()
    for name, schema in zip(names, schemas, strict=True):
        if schema is not None and schema != str(contract.LEDGER_SCHEMA):
            return LedgerSchemaMismatch(name, str(schema), contract.LEDGER_SCHEMA)
    return None


def reset_ledgers(redis: Redis, key_prefix: str) -> int:
    """Delete what the ledgers of all portals hold. Return how many keys that were."""
    return delete_below(redis, key_prefix)


def delete_below(redis: Redis, begin: str) -> int:
    """Delete all keys below a prefix or a stem, a page at a time. Return how many they were."""
    names = redis.scan_iter(keys.pattern(begin), count=_AT_ONCE)
    return sum(int(redis.unlink(*page)) for page in pages_of(names, _AT_ONCE))


def pages_of(names: Iterator[str], size: int) -> Iterator[list[str]]:
    """Return an iterator as lists of at most so many."""
    return iter(lambda: list(islice(names, size)), [])
