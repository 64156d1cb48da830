"""The end of a chunk: what became of each run is recorded, what follows is sent, and Flower is told."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from celery.exceptions import Retry

from b24offline.contract import STEP_PREFIX
from b24offline.delivery import Fail, RetryIn, apart, come_again, ends, waits_as_one
from b24offline.failpoints import failpoint
from b24offline.log import showable
from b24offline.tasks.chunk_messages import following
from b24offline.tasks.failure_log import log_error, words_of
from b24offline.tasks.publish import publish, send
from b24offline.tasks.step_errors import judge, log_failure

if TYPE_CHECKING:
    from celery.canvas import Signature

    from b24offline.delivery import PortalServices, Verdict
    from b24offline.ledger import RunRef, StepLease
    from b24offline.tasks.chunk_messages import ChunkHeader


class ChunkEnd:
    """The end of one chunk. ``step``: the signature of its message."""

    def __init__(
        self,
        task: Any,
        services: PortalServices,
        header: ChunkHeader,
        leases: Mapping[RunRef, StepLease],
        step: Signature[Any],
    ) -> None:
        self._task, self._services, self._header, self._leases, self._step = task, services, header, leases, step

    def record(self, failed: Mapping[str, Exception], whole: Exception | None) -> str:
        """Record the outcome of each run and send what follows. Return what Flower shows, or raise it.

        ``failed``: delivery -> its error; ``whole``: an error that was raised instead, of all of them.
        """
        if whole is None or len(self._leases) == 1:
            judged = {run: self._judged(run, failed.get(run.delivery, whole)) for run in self._leases}
            verdicts = {run: verdict for run, (_, verdict) in judged.items()}
            self._recorded(verdicts)
            if len(judged) == 1:
                self._show_one(*next(iter(judged.values())))
            return _told(verdicts)
        error, verdict = self._of_all(whole)
        alone = not waits_as_one(verdict)
        self._recorded(dict.fromkeys(self._leases, apart(type(error).__name__) if alone else verdict), alone=alone)
        raise _retried(error) from None

    def _recorded(self, verdicts: Mapping[RunRef, Verdict | None], *, alone: bool = False) -> None:
        """``alone``: those that come again by message do so one by one."""
        ended = self._services.chunks.end(ends(self._services.ledger.calls, verdicts))
        failpoint("chunk.ended")
        recorded = {run: verdict for run, verdict in verdicts.items() if run in ended.recorded}
        messages = [
            following(self._header, self._step, group, wait)
            for wait, runs in come_again(recorded).items()
            for group in ([[run] for run in runs] if alone else [runs])
        ]
        send(self._services, messages, ended.settleable)
        publish(self._services, ended.next)

    def _judged(self, run: RunRef, error: Exception | None) -> tuple[Exception | None, Verdict | None]:
        """Return the error of one run and what follows from it; it is logged, and kept for a dead letter."""
        if error is None:
            return None, None
        lease = self._leases[run]
        error, verdict = judge(self._task, self._services, self._header.pipeline, lease, error)
        log_failure(self._task, self._header.pipeline, lease, error, verdict)
        if lease.retrying:
            self._services.dead_letter_queue.note_error(run.run, words_of(error))
        return error, verdict

    def _of_all(self, error: Exception) -> tuple[Exception, Verdict]:
        """Return an error of the whole chunk and what would follow from it for its first event; it is logged once."""
        first = next(iter(self._leases.values()))
        error, verdict = judge(self._task, self._services, self._header.pipeline, first, error)
        facts: dict[str, object] = {
            "portal": self._header.portal,
            "pipeline": self._header.pipeline,
            "step": self._task.name.removeprefix(STEP_PREFIX),
            "events": len(self._leases),
            "error": type(error).__name__,
            "then": f"again in {verdict.wait_seconds:.0f} s"
            if isinstance(verdict, RetryIn) and waits_as_one(verdict)
            else "one by one",
        }
        log_error(logging.WARNING, "chunk failed", error, facts)
        return error, verdict

    def _show_one(self, error: Exception | None, verdict: Verdict | None) -> None:
        """Raise what Flower shows of an event that was alone and failed, as of a step."""
        if error is None or (isinstance(verdict, RetryIn) and verdict.restart):
            return
        raise (_retried(error) if isinstance(verdict, RetryIn) else showable(error)) from None


def _retried(error: Exception) -> Retry:
    shown = showable(error)
    return Retry(exc=shown).with_traceback(shown.__traceback__)


def _told(verdicts: Mapping[RunRef, Verdict | None]) -> str:
    """Return how many ended how: ``48 succeeded, 2 again``."""
    counts = Counter(_word(verdict) for verdict in verdicts.values())
    return ", ".join(f"{count} {word}" for word, count in counts.items())


def _word(verdict: Verdict | None) -> str:
    if verdict is None:
        return "succeeded"
    return "again" if isinstance(verdict, RetryIn) else "failed" if isinstance(verdict, Fail) else "dead-lettered"
