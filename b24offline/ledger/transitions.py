"""The atomic scripts of the ledger: loaded from ``scripts/``, run for one portal, refused on another schema."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from b24offline import contract
from b24offline.counters import OBSERVE_LUA
from b24offline.ledger.schema import LedgerSchemaMismatch

if TYPE_CHECKING:
    from redis import Redis
    from redis.commands.core import Script

_OTHER_SCHEMA: Final = re.compile(r"LEDGERSCHEMA (\S+)")


@cache
def _script_text(name: str) -> str:
    folder = files("b24offline.ledger") / "scripts"
    return (folder / "prelude.lua").read_text("utf-8") + (folder / f"{name}.lua").read_text("utf-8")


@cache
def _for_schema(text: str, schema: int) -> str:
    # Kept once: texts of its own for each of ten thousand portals would take a worker two gigabytes.
    return f"local SCHEMA = {schema}\n{OBSERVE_LUA}{text}"


def registered(redis: Redis, name: str, schema: int = contract.LEDGER_SCHEMA) -> Script:
    """Return a script of the ledger, for the stem of a portal as its only key."""
    return redis.register_script(_for_schema(_script_text(name), schema))


def schema_mismatch(
    portal: str, error: ResponseError, schema: int = contract.LEDGER_SCHEMA
) -> LedgerSchemaMismatch | None:
    """Return what an error of a script means, when it is that another version keeps the portal's ledger."""
    other = _OTHER_SCHEMA.match(str(error))
    return LedgerSchemaMismatch(portal, other[1], schema) if other else None


class Transitions:
    """The scripts of one portal. ``schema`` is the one that this version works on."""

    def __init__(self, redis: Redis, stem: str, portal: str) -> None:
        self._redis = redis
        self._stem = stem
        self._portal = portal
        self._scripts: dict[str, Script] = {}
        self.schema: int = contract.LEDGER_SCHEMA

    def run(self, script: str, *args: str | float) -> Any:
        """Run one script; arguments and reply are described in its head.

        Raise LedgerSchemaMismatch, nothing changed, when another version keeps this portal's ledger.
        """
        if script not in self._scripts:
            self._scripts[script] = registered(self._redis, script, self.schema)
        try:
            return self._scripts[script](keys=[self._stem], args=list(args))
        except ResponseError as error:
            if other := schema_mismatch(self._portal, error, self.schema):
                raise other from None
            raise


def clock_ms(redis: Redis) -> int:
    """Return the ledger's clock: milliseconds of the Redis server."""
    seconds, micros = redis.time()
    return int(seconds) * 1000 + int(micros) // 1000


def milliseconds(seconds: float) -> int:
    """Return a period as scripts take it, at least one millisecond."""
    return max(1, round(seconds * 1000))
