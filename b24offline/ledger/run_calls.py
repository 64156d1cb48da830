"""The calls of scripts that change a run: built here, sent for one run or for many at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b24offline.ledger.transitions import Call, milliseconds

if TYPE_CHECKING:
    from b24offline.config import Timers
    from b24offline.ledger.replies import Outcome, RunRef


class RunCalls:
    """Builds the calls of one portal's runs. ``retrying_rules``: JSON of the rules of retrying runs."""

    def __init__(self, timers: Timers, retrying_rules: str) -> None:
        self._lease = milliseconds(timers.lease_seconds)
        self._queue_bound = milliseconds(timers.run_queue_seconds)
        self._settle_due = milliseconds(timers.settle_due_seconds)
        self._retrying_rules = retrying_rules

    def begin(self, ref: RunRef, position: int) -> Call:
        """Take the lease for a step. Replies JSON of a `StepLease`, or nothing."""
        return Call("begin_step", (ref.run, ref.attempt, position, self._lease))

    def renew(self, ref: RunRef, position: int) -> Call:
        """Renew the lease of a running step. Replies 1 or 0."""
        return Call("renew_lease", (ref.run, ref.attempt, position, self._lease))

    def succeed(self, ref: RunRef) -> Call:
        """Record success. Replies JSON of a `Completion`."""
        return self._finish(ref, "succeeded", "", 0)

    def fail(self, ref: RunRef, reason: str, *, backoff_seconds: float) -> Call:
        """Record failure. Replies JSON of a `Completion`."""
        return self._finish(ref, "failed", reason, milliseconds(backoff_seconds))

    def _finish(self, ref: RunRef, outcome: Outcome, reason: str, backoff: int) -> Call:
        args = (ref.run, ref.attempt, outcome, reason, self._queue_bound, self._settle_due, backoff)
        return Call("finish_run", args)

    def crash(self, ref: RunRef, *, backoff_seconds: float) -> Call:
        """Count a crash of this attempt. Replies JSON of a `Completion`."""
        backoff = milliseconds(backoff_seconds)
        args = (ref.run, ref.attempt, backoff, self._queue_bound, self._settle_due, self._retrying_rules)
        return Call("crash_run", args)

    def retry_step(self, ref: RunRef, delay_seconds: float, *, counted: bool, reason: str) -> Call:
        """Note that the step comes again by message after the delay. Replies 1 or 0."""
        delay = milliseconds(delay_seconds)
        return Call("retry_step", (ref.run, ref.attempt, delay, self._queue_bound, int(counted), reason))

    def reschedule(self, ref: RunRef, delay_seconds: float | None, *, counted: bool, reason: str) -> Call:
        """Let the sweep start the run again after the delay; None: as its failures ask for. Replies 1 or 0."""
        delay = "" if delay_seconds is None else milliseconds(delay_seconds)
        return Call("reschedule_run", (ref.run, ref.attempt, delay, int(counted), reason, self._retrying_rules))

    def exhaust(self, ref: RunRef, *, reason: str) -> Call:
        """Use up the attempts of a retrying run. Replies 1 or 0."""
        return Call("exhaust", (ref.run, ref.attempt, reason, self._retrying_rules))
