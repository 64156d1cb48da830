"""The atomic scripts of the ledger: loaded from ``scripts/``, run for one portal, refused on another schema."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from redis.exceptions import ResponseError

from b24offline import contract
from b24offline.counters import OBSERVE_LUA
from b24offline.ledger.schema import LedgerSchemaMismatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis import Redis
    from redis.commands.core import Script

_OTHER_SCHEMA: Final = re.compile(r"LEDGERSCHEMA (\S+)")


_BODY: Final = "-- transition\n"
"""Stands between the prelude and a script."""


@cache
def _script_text(name: str) -> str:
    folder = files("b24offline.ledger") / "scripts"
    return (folder / "prelude.lua").read_text("utf-8") + _BODY + (folder / f"{name}.lua").read_text("utf-8")


@cache
def _many_text(names: tuple[str, ...]) -> str:
    """Return a script that makes many transitions: ARGV is JSON of [script, argument, ...] each, all of it texts.

    Each script is a function that takes its ARGV. Replies a list with what each of them replies, false for nothing.
    """
    prelude, bodies = "", []
    for name in names:
        prelude, _, body = _script_text(name).partition(_BODY)
        bodies.append(f"transitions.{name} = function(ARGV)\n{body}\nend\n")
    return (
        f"{prelude}{_BODY}local transitions = {{}}\n{''.join(bodies)}"
        "local replies = {}\n"
        "for i, call in ipairs(cjson.decode(ARGV[1])) do\n"
        "  replies[i] = transitions[table.remove(call, 1)](call) or false\n"
        "end\n"
        "return replies\n"
    )


@cache
def _for_schema(text: str, schema: int) -> str:
    # Kept once: texts of its own for each of ten thousand portals would take a worker two gigabytes.
    prelude, mark, body = text.partition(_BODY)
    return f"local SCHEMA = {schema}\n{needed(OBSERVE_LUA + prelude, body)}{mark}{body}"


_DEFINITION: Final = re.compile(r"^local (?:function )?(\w+)(?=[ (])")
_WORD: Final = re.compile(r"[A-Za-z_]\w*")


def needed(prelude: str, body: str) -> str:
    """Return what is left of a prelude when nothing stays that neither a script nor the rest of it names. Pure.

    A script makes all functions of its prelude anew each time, which takes longer than its own commands. A definition
    begins with ``local`` at the begin of a line and ends with the next line that is not indented, ``end`` or a bracket
    included; other lines stay as they are.
    """
    blocks: list[tuple[str | None, list[str]]] = []
    for line in prelude.splitlines():
        found = _DEFINITION.match(line)
        if found or not blocks or not (line[:1] in {" ", ""} or line in {"end", "}"}):
            blocks.append((found[1] if found else None, []))
        if not line.startswith("--"):
            blocks[-1][1].append(line)
    wanted = set(_WORD.findall(body))
    kept: list[str] = []
    for name, lines in reversed(blocks):  # what a definition names stands before it
        if name is None or name in wanted:
            wanted.update(_WORD.findall("\n".join(lines)))
            kept[:0] = lines
    return "\n".join(kept) + "\n"


def registered(redis: Redis, name: str, schema: int = contract.LEDGER_SCHEMA) -> Script:
    """Return a script of the ledger, for the stem of a portal as its only key."""
    return redis.register_script(_for_schema(_script_text(name), schema))


def schema_mismatch(
    portal: str, error: ResponseError, schema: int = contract.LEDGER_SCHEMA
) -> LedgerSchemaMismatch | None:
    """Return what an error of a script means, when it is that another version keeps the portal's ledger."""
    other = _OTHER_SCHEMA.match(str(error))
    return LedgerSchemaMismatch(portal, other[1], schema) if other else None


class Call(NamedTuple):
    """One transition that is to be made: a script, and its arguments as its head describes them."""

    script: str
    args: tuple[str | float, ...]


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
        return self._sent(script, args)

    def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """Run several scripts, one after the other, as one atomic step. Return their replies, None for no reply.

        Raise LedgerSchemaMismatch as `run` does.
        """
        names = tuple(sorted({call.script for call in calls}))
        script = " ".join(("all of", *names))
        if not calls:
            return []
        if script not in self._scripts:
            self._scripts[script] = self._redis.register_script(_for_schema(_many_text(names), self.schema))
        rows = [[call.script, *map(str, call.args)] for call in calls]
        return list(self._sent(script, [json.dumps(rows)]))

    def _sent(self, script: str, args: Iterable[str | float]) -> Any:
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
