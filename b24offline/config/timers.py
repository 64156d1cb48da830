"""Every waiting time of the protocol between a deployment and a portal, scaled by one factor. Pure."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Timers:
    """Waiting times in seconds.

    Attributes:
        lease_seconds: how long a running run may stay silent before it counts as crashed.
        run_queue_seconds: how long a dispatched run may wait for a worker before it is dispatched again; doubles
            with each dispatch, so that a backlog does not multiply itself.
        dispatch_due_seconds: after this an open batch whose dispatch was not confirmed is dispatched again.
        in_doubt_seconds: no redrive, confirm or clear of a message id for so long after its nack was sent: the 180 s
            in which a portal may execute it, the longest connect timeout (15 s) before that, and 5 s.
        nack_age_seconds: a batch must have been seen for so long before a record of it is nacked; longer
            than an overlapping reserving call can live.
        sighting_seconds: least time between the two sightings of an orphan before it is adopted.
        idle_look_seconds: between two looks at the records of a portal where nothing waits and nothing can have been
            lost: what nobody knows of is found by them alone.
        poll_lease_seconds: lease of one reserving call on its portal; longer than the call can take.
        all_in_doubt_seconds: as `in_doubt_seconds`, of every message, where it is not known any more what was sent;
            and the 15 s in which a server of the ledger that was replaced may still answer some workers.
        recovery_seconds: no reserving call for so long after the loss of the ledger: a lease, and these 15 s.
        settle_lease_seconds: lease of one settling process on its batch.
        settle_due_seconds: after this a batch that is ready but not closed is settled again.
        sweep_seconds: interval between sweeps for overdue work.
        run_age_seconds: the age at which a run fails whose object the portal refuses, though it answers for no other.
        outage_seconds: that age where a portal that is away would give the same answer: longer than most are away.
        dead_letter_after_seconds: the age at which a record that keeps failing is dead-lettered.
        read_timeout_seconds: the longest time for one reply of a portal.
        call_lease_seconds: how long a call's slot stays taken when nobody renews it, as after a kill.
        slow_call_seconds: while a call of a portal is under way for longer, nobody waits in a worker for its slot.
        late_call_seconds: a call under way for longer needs one of the places that calls to silent portals share.
        read_patience_seconds: how long a call that only reads waits for its answer at first; twice that after each that
            was cut off.
        circuit_seconds: rests before one call tries a portal that brought no answer.
        step_backoff_seconds: waits before a step is retried; after the last one it fails.
        redrive_backoff_seconds: waits before a record that was nacked as failed runs again.
    """

    lease_seconds: float = 60.0
    run_queue_seconds: float = 300.0
    dispatch_due_seconds: float = 60.0
    in_doubt_seconds: float = 200.0
    all_in_doubt_seconds: float = 215.0
    nack_age_seconds: float = 75.0
    sighting_seconds: float = 180.0
    idle_look_seconds: float = 900.0
    poll_lease_seconds: float = 75.0
    recovery_seconds: float = 90.0
    settle_lease_seconds: float = 60.0
    settle_due_seconds: float = 120.0
    sweep_seconds: float = 15.0
    run_age_seconds: float = 3_600.0
    outage_seconds: float = 14_400.0
    dead_letter_after_seconds: float = 604_800.0
    read_timeout_seconds: float = 65.0
    call_lease_seconds: float = 15.0
    slow_call_seconds: float = 2.0
    late_call_seconds: float = 5.0
    read_patience_seconds: float = 15.0
    circuit_seconds: tuple[float, ...] = (15.0, 30.0, 60.0)
    step_backoff_seconds: tuple[float, ...] = (2.0, 8.0, 30.0, 60.0)
    redrive_backoff_seconds: tuple[float, ...] = (300.0, 900.0, 2_700.0, 7_200.0, 21_600.0, 86_400.0)

    def scaled(self, scale: float) -> Timers:
        """Return all of them multiplied by the same factor, so that their order, on which safety rests, is the same.

        ``scale``: greater than 0, at most 1; 1 outside tests and the demo. Raise ValueError for another one.
        """
        if not 0.0 < scale <= 1.0:
            raise ValueError("the time scale must be greater than 0 and at most 1")
        return Timers(
            **{  # type: ignore[arg-type] # fields of both types
                name: tuple(wait * scale for wait in value) if isinstance(value, tuple) else value * scale
                for name, value in asdict(self).items()
            }
        )


@functools.cache
def scaled_timers(lease_seconds: float, sweep_seconds: float, read_timeout_seconds: float, scale: float) -> Timers:
    """Return the timers of a configuration, the same object each time: every poll and every portal of a sweep ask."""
    timers = Timers(lease_seconds=lease_seconds, sweep_seconds=sweep_seconds, read_timeout_seconds=read_timeout_seconds)
    return timers.scaled(scale)
