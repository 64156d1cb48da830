"""Bulk pipelines: which runs share a chunk, and what becomes of each of its events. Pure.

A chunk is the runs that one message starts and one call of a bulk step works on. Only runs that were handed out are
put into chunks, so no two of one object and pipeline are ever in one: the later one waits in its object queue.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from b24offline import errors
from b24offline.delivery.retry_policy import Exhaust, Fail, Permanent, RetryIn

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Mapping

    from b24offline.delivery.retry_policy import Verdict
    from b24offline.events import Event
    from b24offline.ledger import Call, RunCalls, RunRef


class EventFailed(errors.B24OfflineError):
    """A bulk step answered that an event failed, in words of its own. Tried again as any error of a step."""

    actor: ClassVar[errors.Actor] = "operator"


class WrongAnswer(Permanent):
    """A bulk step answered with something else than the failures of its chunk."""

    actor: ClassVar[errors.Actor] = "developer"


@dataclass(frozen=True, slots=True)
class Failed:
    """One event of a chunk that failed, in the answer of a bulk step.

    Attributes:
        event: of the chunk.
        reason: an exception, judged as if a step had raised it, or words, which may be logged and must quote nobody.
        final: whether the next try would end the same.
    """

    event: Event
    reason: str | Exception
    final: bool = False

    @property
    def error(self) -> Exception:
        """The error that this run ended with."""
        if isinstance(self.reason, Exception):
            return _as_final(self.reason) if self.final else self.reason
        return Permanent(self.reason) if self.final else EventFailed(self.reason)


def _as_final(error: Exception) -> Exception:
    if isinstance(error, Permanent):
        return error
    final = Permanent(str(error) if isinstance(error, errors.B24OfflineError) else type(error).__name__)
    final.__cause__ = error
    return final


class SomeFailed(errors.B24OfflineError):
    """Raised by a bulk step instead of returning failures: all others have succeeded."""

    def __init__(self, failures: Iterable[Failed]) -> None:
        self.failures = tuple(failures)
        super().__init__(f"{len(self.failures)} events failed")


@dataclass(frozen=True, slots=True)
class Ready:
    """A run that was handed out and may share a chunk.

    Attributes:
        run: the run.
        kind: what all runs of a chunk have in common: pipeline, step, its arguments, queue.
        most: runs of a chunk, at most.
        alone: whether its process died before, so that it must not take others with it.
    """

    run: RunRef
    kind: Hashable
    most: int
    alone: bool = False


def chunks(ready: Iterable[Ready]) -> list[tuple[RunRef, ...]]:
    """Return the runs as they share chunks, each chunk and the chunks themselves in the order of their first run."""
    groups: dict[Hashable, list[list[RunRef]]] = {}
    ordered: list[list[RunRef]] = []
    for one in ready:
        open_ones = groups.setdefault(one.kind, [])
        if one.alone:
            ordered.append([one.run])
        elif open_ones and len(open_ones[-1]) < one.most:
            open_ones[-1].append(one.run)
        else:
            open_ones.append([one.run])
            ordered.append(open_ones[-1])
    return [tuple(group) for group in ordered]


def failures_in(answer: object, deliveries: Collection[str]) -> dict[str, Exception]:
    """Return delivery -> error of the events that a bulk step says have failed.

    Args:
        answer: what it returned: nothing, or an iterable of `Failed`.
        deliveries: of the events of the chunk. Of several failures of one event the first counts.

    Raise `WrongAnswer` for anything else: what cannot be read as failures must not pass for success.
    """
    if answer is None:
        return {}
    if isinstance(answer, str | bytes | dict) or not isinstance(answer, Iterable):
        raise WrongAnswer(f"a bulk step returns nothing or Failed(...) of its events, not a {type(answer).__name__}")
    found: dict[str, Exception] = {}
    for failed in answer:
        if not isinstance(failed, Failed):
            raise WrongAnswer(f"a bulk step returns Failed(...) of its events, not a {type(failed).__name__}")
        if failed.event.delivery not in deliveries:
            raise WrongAnswer("a bulk step returned a failure of an event that is not in its chunk")
        found.setdefault(failed.event.delivery, failed.error)
    return found


def waits_as_one(verdict: Verdict) -> bool:
    """Return whether an error of a whole chunk concerns none of its events: it passes, and no attempt is counted."""
    return isinstance(verdict, RetryIn) and not verdict.counted


def apart(reason: str) -> RetryIn:
    """Return what becomes of each run of a chunk that failed whole: it comes again at once, alone."""
    return RetryIn(0.0, counted=False, restart=False, reason=reason)


SUCCEEDED: Final = None
"""The verdict on a run that has not failed."""


def ends(calls: RunCalls, verdicts: Mapping[RunRef, Verdict | None]) -> dict[RunRef, Call]:
    """Return the transition of each run of a chunk that ended so."""
    return {run: _end(calls, run, verdict) for run, verdict in verdicts.items()}


def _end(calls: RunCalls, run: RunRef, verdict: Verdict | None) -> Call:
    if verdict is SUCCEEDED:
        return calls.succeed(run)
    if isinstance(verdict, Fail):
        return calls.fail(run, verdict.reason, backoff_seconds=verdict.backoff_seconds)
    if isinstance(verdict, Exhaust):
        return calls.exhaust(run, reason=verdict.reason)
    how = calls.reschedule if verdict.restart else calls.retry_step
    return how(run, verdict.wait_seconds, counted=verdict.counted, reason=verdict.reason)


def come_again(verdicts: Mapping[RunRef, Verdict | None]) -> dict[float, list[RunRef]]:
    """Return wait in seconds -> the runs that come again by message after it; all others are the ledger's."""
    found: dict[float, list[RunRef]] = {}
    for run, verdict in verdicts.items():
        if isinstance(verdict, RetryIn) and not verdict.restart:
            found.setdefault(verdict.wait_seconds, []).append(run)
    return found
