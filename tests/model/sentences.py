"""A history in words: one line for each thing that happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .state import Label


def _batch(process: object) -> str:
    return f"P{process}" if process else "free"


def _ids(ids: object) -> str:
    return " and ".join(str(one) for one in ids) if isinstance(ids, tuple) and ids else "nothing"


def _reserved(record: object, before: object, process: object, answer: object) -> str:
    moved = f"moves record {record} from {_batch(before)} to" if before else f"reserves record {record} as"
    return (
        f"portal   {moved} {_batch(process)}; {'the batch is opened' if answer == 'opened' else 'the answer is lost'}"
    )


def _run(record: object, stamp: object, pipeline: object, attempt: object) -> str:
    through = f" through pipeline {pipeline}" if pipeline else ""
    return f"run of record {record}{'' if not stamp else f', stamp {stamp}'}{through}, attempt {attempt}"


def _read(fresh: object) -> str:
    return "began after the last change" if fresh else "began before the last change"


SENTENCES: dict[str, Callable[..., str]] = {
    "tick": lambda: "time passes",
    "change_new": lambda record: f"portal   the object changes: record {record} is queued",
    "change_repeats": lambda record: f"portal   the object changes: free record {record} is stamped again",
    "poll": lambda: "poll     takes the lease, sends get",
    "redrive": lambda record: f"redrive  takes the lease, sends get for nacked record {record}",
    "get_picks": lambda record: f"portal   begins to execute get: it picks record {record}",
    "reserved": _reserved,
    "reserved_nacked": _reserved,
    "copied": lambda kind, process, _: f"network  doubles the {kind}" + (f" for {_batch(process)}" if process else ""),
    "clear": lambda process, ids: f"portal   executes clear for {_batch(process)}: deletes {_ids(ids)}",
    "error": lambda process, nacked, deleted: (
        f"portal   executes error for {_batch(process)}: nacks {_ids(nacked)}, deletes {_ids(deleted)}"
    ),
    "adopted": lambda *due: f"adopt    opens {' and '.join(_batch(one) for one in due)}",
    "looked": lambda process: f"adopt    two lists show {_batch(process)} as reserved and unknown",
    "adopted_at_once": lambda process: f"adopt    opens {_batch(process)} at once",
    "ledger_lost": lambda: "ledger   is lost",
    "run_succeeds": lambda *reply: f"worker   {_run(*reply[:4])}, succeeds; it {_read(reply[4])}",
    "run_begins_again": lambda *reply: f"worker   {_run(*reply)}, begins again",
    "run_fails": lambda *reply: f"worker   {_run(*reply)}, fails for good",
    "run_writes_and_fails": lambda *reply: f"worker   {_run(*reply)}, has written, then fails for good",
    "run_freezes": lambda *reply: f"worker   {_run(*reply)}, is cut off; its lease runs out",
    "straggler_ends": lambda *reply: f"worker   {_run(*reply[:4])}, comes back and succeeds; it {_read(reply[4])}",
    "settle_clears": lambda process, record: f"settle   {_batch(process)}: record {record} succeeded, sends clear",
    "settle_cleared": lambda process, record: f"settle   {_batch(process)}: record {record} is cleared, closes",
    "settle_pauses": lambda process, record: (
        f"settle   {_batch(process)}: record {record} succeeded; pauses before clear"
    ),
    "resumes_clear": lambda process, record: f"settle   {_batch(process)}: goes on, sends clear for record {record}",
    "settle_clears_nothing": lambda process, _: (
        f"settle   {_batch(process)}: nothing succeeded, sends clear without ids"
    ),
    "settle_closes_unfinished": lambda process, _: f"settle   {_batch(process)}: closes, unfinished",
    "settle_finds_gone": lambda process, record: f"settle   {_batch(process)}: record {record} is gone, closes",
    "settle_looks": lambda process, record: f"settle   {_batch(process)}: record {record} failed, looks for it",
    "settle_will_supersede": lambda process, _: f"settle   {_batch(process)}: sees a newer record",
    "settle_will_nack": lambda process, _: f"settle   {_batch(process)}: sees no newer record",
    "sends_supersede": lambda process, record: (
        f"settle   {_batch(process)}: sends clear for superseded record {record}"
    ),
    "sends_nack": lambda process, record: (
        f"settle   {_batch(process)}: notes the in-doubt window, sends error for record {record}"
    ),
}


def reply(history: Iterable[Label]) -> list[str]:
    """Return the lines of a history; ticks that follow each other are one line."""
    lines: list[str] = []
    ticks = 0
    for label in (*history, ("end",)):
        if label[0] == "tick":
            ticks += 1
            continue
        if ticks:
            lines.append(f"         {ticks} tick{'s' if ticks > 1 else ''}")
            ticks = 0
        if label[0] != "end":
            lines.append(SENTENCES[str(label[0])](*label[1:]))
    return lines
