"""Every rule with what the model says about it: the loss without it, or that another rule covers for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from .state import Bounds, Rules

LOST: Final = "lost"
CLEARED: Final = "cleared"
STUCK: Final = "stuck"

CALM: Final = Bounds(losses=0, repeats=0)
"""Two changes; late calls, deaths, lost answers and failing runs, which are never bounded."""
TWICE: Final = Bounds(losses=0)
"""One call is executed twice."""
LOSS: Final = Bounds(repeats=0)
"""The ledger is lost once."""
BOTH: Final = Bounds()
LINGER: Final = replace(CALM, linger=True)
"""A batch that its record has left may stay open."""
PAIR: Final = replace(CALM, pipelines=2)
"""Each delivery has two runs."""
TARGET: Final = replace(CALM, deduplicates=True)
"""What is written to deduplicates by idempotency key."""
LATE: Final = replace(CALM, late_looks=True)
"""What is adopted at once is written a while after it was listed."""
PROMPT: Final = Bounds(losses=0, repeats=0, reserving=0)
"""No reserving call outlives the poll lease."""
PROMPT_LOSS: Final = replace(PROMPT, losses=1)
PROMPT_THREE: Final = replace(PROMPT, changes=3)


@dataclass(frozen=True)
class Case:
    """Rules that are off together and what must come of it. `steps`: length of the shortest history, 0 for none."""

    off: tuple[str, ...]
    bounds: Bounds
    violation: str
    steps: int
    means: str

    @property
    def rules(self) -> Rules:
        """All rules but those that are off."""
        return replace(Rules(), **dict.fromkeys(self.off, False))

    @property
    def drains(self) -> bool:
        """Whether the states must be followed to their end to see it."""
        return self.violation == STUCK

    @property
    def name(self) -> str:
        """The rules that are off."""
        return " + ".join(self.off)


NEEDED: Final = (
    Case(("explicit_keep",), CALM, LOST, 4, "`clear=0` is sent with every reserving call"),
    Case(("process_scope",), CALM, CLEARED, 8, "`clear` names a process id"),
    Case(("ids_given",), CALM, CLEARED, 6, "`clear` names record ids, at least one"),
    Case(("look_live",), replace(TWICE, linger=True), LOST, 13, "before `error`: the record is still in the batch"),
    Case(("newer_is_greater",), CALM, LOST, 16, "only a record with a greater id supersedes"),
    Case(("nack_age",), TWICE, LOST, 12, "nothing is nacked of a batch younger than 75 s"),
    Case(("settle_lease",), TWICE, LOST, 13, "a look is good for a call only while its settle lease lasts"),
    Case(("in_doubt_settle",), CALM, LOST, 15, "no `clear` and no `error` in an in-doubt window"),
    Case(
        ("in_doubt_superseded",),
        PROMPT_THREE,
        LOST,
        22,
        "an in-doubt window is noted before a superseded record is cleared",
    ),
    Case(("retrying_never_fails",), CALM, STUCK, 16, "the run of a retrying record never fails for good"),
    Case(("key_of_nacked",), TARGET, LOST, 19, "a record that was nacked writes under another idempotency key"),
    Case(("adoption",), CALM, STUCK, 3, "orphans are adopted"),
    Case(("error_lane",), CALM, STUCK, 5, "nacked records are run again"),
)
"""Rules without which the model loses a change, or never runs it."""

ASKED_FOR: Final = (
    Case(
        ("unique_attempts",), replace(CALM, freezes=1), LOST, 20, "an attempt's token never comes back for a later run"
    ),
    Case(("unique_attempts",), LOSS, LOST, 22, "the same, after loss of the ledger"),
    Case(
        ("own_run_when_retrying",),
        LINGER,
        STUCK,
        14,
        "a retrying record is run, though an older batch with its failed run is still open",
    ),
    Case(
        ("all_runs_when_retrying",),
        replace(PAIR, linger=True),
        LOST,
        20,
        "the same holds for its runs that succeeded",
    ),
    Case(
        ("numbers_of_all_runs",),
        replace(PROMPT, pipelines=2, freezes=1),
        LOST,
        22,
        "attempts of a run that succeeded beside a failed one do not come back, either",
    ),
    Case(
        ("lease_to_clear",),
        replace(LOSS, pauses=1),
        LOST,
        18,
        "the settle lease is still in hand when `clear` is sent",
    ),
    Case(
        ("epoch_age",),
        LOSS,
        LOST,
        16,
        "nothing is adopted at once before an in-doubt window has passed since the epoch began",
    ),
    Case(("fresh_at_once",), CALM, LOST, 14, "what is adopted at once is as young as what was just reserved"),
)
"""Rules that the exploration of the protocol brought up."""

TOGETHER: Final = (
    Case(("in_doubt_redrive", "redrive_wait"), TWICE, LOST, 20, "two periods before a nacked record is reserved"),
    Case(("in_doubt_adoption", "two_sightings"), LOSS, LOST, 17, "two periods before an adopted record is cleared"),
    Case(("nack_age", "poll_lease"), PROMPT, LOST, 12, "two guards against overlapping reserving calls"),
    Case(("nack_age", "recovery_pause"), PROMPT_LOSS, LOST, 13, "the same, after loss of the ledger"),
)
"""Rules that cover for each other: one may be off, both may not."""

SPARE: Final = (
    Case(("in_doubt_redrive",), TWICE, "", 0, "the wait of a nacked record is longer than an in-doubt window"),
    Case(("redrive_wait",), TWICE, "", 0, "an in-doubt window ends later than the call that nacked"),
    Case(("in_doubt_adoption",), LOSS, "", 0, "between two sightings every call of before has ended"),
    Case(("two_sightings",), LOSS, "", 0, "the in-doubt window of the adoption is as long"),
    Case(("two_lists",), LATE, "", 0, "a batch that was settled meanwhile runs again, and finds its record gone"),
    Case(("poll_lease",), TWICE, "", 0, "the nack age covers overlapping calls"),
    Case(("nack_age",), PROMPT, "", 0, "the poll lease covers, where no call outlives it or is doubled"),
    Case(("recovery_pause",), LOSS, "", 0, "the nack age covers"),
    Case(("look_newer",), CALM, "", 0, "the newer event is deleted, but the older one is nacked and run again"),
    Case(("nacked_once",), CALM, "", 0, "a retrying run never fails, so it is never nacked again"),
    Case(("close_when_finished",), LOSS, "", 0, "the records are adopted, and run again"),
)
"""Rules whose loss alone the model does not notice, and why."""
