"""Which messages of the broker are taken: those that this deployment, or a stack it hands over to, may have sent. Pure.

Whoever can write to the broker can send anything. A message may run a task of ours; it may not make a worker send
messages to others, fill its memory or end it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from b24offline.contract import EXCHANGE, HEADER_WORK, TASK_CHUNK_FAILED, TASK_FAILED

SENT_ON: Final = ("callbacks", "errbacks", "chain", "chord")
"""What a message may ask the worker to send when its task has ended."""
_TEXTS: Final = ("parent_id", "root_id", "group", "eta", "expires", "argsrepr", "kwargsrepr", "shadow", "origin")
_ADDRESS: Final = frozenset({"exchange", "routing_key"})
_NOT_OURS: Final = frozenset({"connection", "producer", "publisher", "router", "exchange_type", "chord", "group_id"})


class Refused(ValueError):
    """A message is not taken. The text says why, and holds nothing of the message."""


def check_headers(headers: object, tasks: Collection[str]) -> None:
    """Raise `Refused` unless these are the headers of one of the tasks, in the shape that Celery relies on."""
    if not isinstance(headers, Mapping):
        raise Refused("it has no headers")
    if not isinstance(headers.get("task"), str):
        raise Refused("it names no task")
    if headers["task"] not in tasks:
        raise Refused("its task is not known here")
    if not isinstance(headers.get("id"), str):
        raise Refused("it has no id")
    if not isinstance(headers.get("retries"), int | None):
        raise Refused("its number of retries is no number")
    if not all(isinstance(headers.get(name), str | None) for name in _TEXTS):
        raise Refused("a header of it is no text")
    limits = headers.get("timelimit") or (None, None)
    if not isinstance(limits, list | tuple) or len(limits) != 2 or not all(map(_is_limit, limits)):
        raise Refused("its time limits are no numbers")


def _is_limit(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and value > 0)


def checked_body(headers: Mapping[str, Any], body: object, queues: Collection[str]) -> tuple[Any, ...] | None:
    """Return the body to run instead, None to run it as it is. Raise `Refused`.

    A message without the header of a run loses its callbacks, errbacks, chain and chord. Those of a run are steps of
    the same run and its outcome tasks, and go to ``queues`` only.
    """
    if not isinstance(body, list | tuple) or len(body) != 3:
        raise Refused("its body has another form")
    args, kwargs, embed = body
    if not isinstance(args, list) or not isinstance(kwargs, dict) or not isinstance(embed, dict | None):
        raise Refused("its body has another form")
    asked = {name: embed[name] for name in SENT_ON if embed.get(name)} if embed else {}
    run = run_of(headers)
    if not asked or run is None:
        return (args, kwargs, {}) if asked else None
    for name, rows in asked.items():
        if (
            name == "chord"
            or not isinstance(rows, list)
            or not all(is_sendable(row, run, name, queues) for row in rows)
        ):
            raise Refused(f"its {name} is not that of a run")
    return None


def run_of(headers: object) -> tuple[object, object] | None:
    """Return portal and run, or runs, of the headers of a step, None for those of another message."""
    work = headers.get(HEADER_WORK) if isinstance(headers, Mapping) else None
    if not isinstance(work, Mapping) or "portal" not in work:
        return None
    return next(((work["portal"], work[name]) for name in ("run", "runs") if name in work), None)


def is_sendable(row: object, run: object, name: str, queues: Collection[str]) -> bool:
    """Return whether a signature may be sent on by a step of the run; ``name``: as what, see `SENT_ON`."""
    if not isinstance(row, Mapping) or row.get("subtask_type") or not isinstance(row.get("task"), str):
        return False
    options = row.get("options") or {}
    if not isinstance(options, Mapping) or not _goes_to(options, queues):
        return False
    if name == "errbacks" and row["task"] not in {TASK_FAILED, TASK_CHUNK_FAILED}:
        return False
    if name == "chain" and run_of(options.get("headers")) != run:
        return False
    inner = {"callbacks": options.get("link") or [], "errbacks": options.get("link_error") or []}
    return all(
        isinstance(rows, list | tuple) and all(is_sendable(each, run, kind, queues) for each in rows)
        for kind, rows in inner.items()
    )


def _goes_to(options: Mapping[str, Any], queues: Collection[str]) -> bool:
    if _NOT_OURS & options.keys():
        return False
    queue, exchange, key = (options.get(name) for name in ("queue", "exchange", "routing_key"))
    if queue is not None:
        return isinstance(queue, str) and queue in queues and not _ADDRESS & options.keys()
    if not _ADDRESS & options.keys():
        return True
    return exchange == EXCHANGE and isinstance(key, str) and key in queues
