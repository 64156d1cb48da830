"""The journal of the handlers, and their orders: in a Valkey of its own, which no fault touches."""

from __future__ import annotations

import json
import os
import uuid
from typing import Any, Final

from redis import Redis

VARIABLE: Final = "B24OFFLINE_TEST_JOURNAL"
"""The journal's address, in the environment of the workers."""
COPIES: Final = "B24OFFLINE_TEST_COPIES"
"""How often the workers send each message, if more than once."""
VISIBILITY: Final = "B24OFFLINE_TEST_VISIBILITY"
"""The `visibility_timeout` of a Redis broker in seconds, where a row wants another one."""
SOFT_LIMIT: Final = "B24OFFLINE_TEST_SOFT_SECONDS"
HARD_LIMIT: Final = "B24OFFLINE_TEST_HARD_SECONDS"
"""Time limits of tasks, where a row wants other ones; those of the settings win over a worker's command line."""
CHEAP: Final = "B24OFFLINE_TEST_CHEAP"
"""One step instead of two and no mirror, where a row measures the machinery and not its handlers."""
FUSED: Final = "B24OFFLINE_TEST_FUSED"
"""Which part of the runs is fused, 0 to 1: each chooses by chance. Else none is."""
CUSTOMER: Final = "Website form"
"""Part of the title of every lead that the emulator makes up: it must not be found in messages and logs."""

_APPEND: Final = """
local now = redis.call('TIME')
return redis.call('RPUSH', KEYS[1], string.format('%s, "wall": %d.%06d}', ARGV[1], now[1], now[2]))
"""
"""The journal's own clock: that of a worker may be what a row puts wrong."""
_LINES: Final = "lines"
_MODES: Final = "modes"
_TOLD: Final = "reply"
_USED: Final = "used"
_COPIED: Final = "copied"

ENTITIES: Final = {
    "crm_lead": "CRMLEAD",
    "crm_deal": "CRMDEAL",
    "crm_contact": "CRMCONTACT",
    "crm_company": "CRMCOMPANY",
    "crm_item": "CRMDYNAMICITEM",
    "task": "TASK",
}
TRACKED: Final = tuple(f"ON{name}{verb}" for name in ENTITIES.values() for verb in ("ADD", "UPDATE", "DELETE"))
COUNTED: Final = ("ONCRMLEADUPDATE",)
_PIPELINES: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "tests.faults.chains": {
        **{name: ("tracked", "counted") if name in COUNTED else ("tracked",) for name in TRACKED},
        "ONCRMDEALMOVETOCATEGORY": ("announced",),
    },
    "tests.faults.bulk_chains": dict.fromkeys(TRACKED, ("bulked",)),
}
"""Module of pipelines -> event name -> those of its pipelines that write into the journal."""


def pipelines_of(modules: str) -> dict[str, tuple[str, ...]]:
    """Return event name -> the pipelines that must run for it. ``modules``: as in `B24_PIPELINES`."""
    found: dict[str, tuple[str, ...]] = {}
    for module in modules.split(","):
        for event, pipelines in _PIPELINES.get(module.strip(), {}).items():
            found[event] = (*found.get(event, ()), *pipelines)
    return found


class Journal:
    """Reads and writes the journal. Written by handlers, read by the row after its drain."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url, decode_responses=True)
        self._append = self._redis.register_script(_APPEND)

    @classmethod
    def of_environment(cls) -> Journal:
        """Return the journal of this worker."""
        return cls(os.environ[VARIABLE])

    # -- handlers --------------------------------------------------------------------------------------------

    def start(self, **values: Any) -> str:
        """Return a step begins; answers the name of its span."""
        span = uuid.uuid4().hex
        self._write(span, "start", **values)
        return span

    def effect(self, span: str, saw: str) -> None:
        """The step does now what must not be done twice."""
        self._write(span, "effect", saw=saw)

    def end(self, span: str, *, ok: bool = True) -> None:
        """The step ended, well or by an error that its handler raised."""
        self._write(span, "end" if ok else "fail")

    def _write(self, span: str, mark: str, **values: Any) -> None:
        line = json.dumps({"span": span, "mark": mark, **values})
        self._append(keys=[_LINES], args=[line.removesuffix("}")])

    def mode(self, name: str, *, alone: bool = False) -> tuple[str, float]:
        """Return what the handler of this object does now: a word and a number. ("", 0.0): its work.

        ``alone``: orders to all handlers are not meant for it.
        """
        for key in (name,) if alone else (name, "*"):
            reply = self._redis.hget(_MODES, key)
            if not reply:
                continue
            word, argument, times = str(reply).split(":")
            used = int(self._redis.hincrby(_USED, f"{key}:{word}"))
            if not times or used <= int(times):
                return word, float(argument or 0)
        return "", 0.0

    def copied(self, number: int) -> None:
        """So many copies of a message were sent."""
        self._redis.incrby(_COPIED, number)

    # -- rows ------------------------------------------------------------------------------------------------

    def tell(self, word: str, argument: float = 0.0, *, name: str = "*", times: int | None = None) -> None:
        """Tell the handlers of an object ("crm_deal 7"), or all, what to do, the first ``times`` times or always."""
        self._redis.sadd(_TOLD, f"{name}:{word}")
        self._redis.hdel(_USED, f"{name}:{word}")
        self._redis.hset(_MODES, name, f"{word}:{argument}:{'' if times is None else times}")

    def tell_nothing(self) -> None:
        """From now on all handlers do their work."""
        self._redis.delete(_MODES)

    def unheeded(self) -> set[str]:
        """Return orders that no handler came to carry out, as "crm_deal 7:fail"."""
        return set(self._redis.smembers(_TOLD)) - set(self._redis.hkeys(_USED))

    @property
    def copies(self) -> int:
        """How many copies of messages were sent."""
        return int(self._redis.get(_COPIED) or 0)

    def lines(self, *, last: int = 0) -> list[str]:
        """Return the lines of every portal, in order: all, or only the ``last`` so many."""
        return list(self._redis.lrange(_LINES, -last, -1))

    def count(self, mark: str) -> int:
        """Return how many marks of a kind there are."""
        return sum(1 for line in self.lines() if json.loads(line)["mark"] == mark)
