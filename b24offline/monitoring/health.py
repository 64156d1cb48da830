"""What is wrong with a portal, decided from the store and a sample of the ledger. Pure.

An issue says what happened and what to do, in words that are complete without the documentation. Its code never
changes, so that alarms and monitoring can tell issues apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from b24offline.events import DesiredState, ObservedState
from b24offline.ledger import MEMORY_SHARE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from b24offline.events import Portal
    from b24offline.monitoring.health_sample import HealthSample

LATE_SECONDS: Final = 60.0
"""A poll that is overdue for so long means that nobody polls."""
LONG_PAUSE_SECONDS: Final = 3600.0
"""What passes by itself has passed by then."""
LONG_RECONCILIATION_SECONDS: Final = 2 * 86_400.0
"""Even a mirror of a hundred thousand objects is read in less."""
FULL_SECONDS: Final = 600.0
"""Under load a lane is full for seconds at a time."""
SILENT_SECONDS: Final = 600.0
"""Calls that try whether a portal answers again are a minute apart, and more where many portals are silent."""
OLD_SECONDS: Final = 3600.0
"""Retries, crashes and settling of an ordinary batch end long before."""
UNADOPTED_SECONDS: Final = 900.0
"""An orphan that was seen is adopted within 6 minutes when nothing hinders it."""
UNLOOKED_SECONDS: Final = 2700.0
"""All that is reserved on an idle portal is looked through every 15 minutes."""
DEAD_LETTER_SLACK_SECONDS: Final = 2 * 86_400.0
"""After the age at which a retrying run is dead-lettered: that happens when its wait, at most a day, is over."""
_ACTORS: Final = {
    ObservedState.AUTH_LOST: "portal administrator",
    ObservedState.NOT_ADMIN: "portal administrator",
    ObservedState.PLAN_TOO_SMALL: "portal administrator",
    ObservedState.UNDECIDED: "operator",
    ObservedState.MOVED: "operator",
    ObservedState.BLOCKED: "operator",
    ObservedState.REMOVED: "operator",
}
"""Who must act where the error that led to the state did not tell."""


class IssueCode(StrEnum):
    """What kind of issue it is."""

    PORTAL_STATE = "portal_state"
    WRONG_KEY = "wrong_key"
    DEAD_LETTERS = "dead_letters"
    LEDGER_UNREACHABLE = "ledger_unreachable"
    LEDGER_SCHEMA = "ledger_schema"
    NOT_POLLED = "not_polled"
    OLD_BATCH = "old_batch"
    GATE_FULL = "gate_full"
    NOT_ANSWERING = "not_answering"
    RETRYING_TOO_LONG = "retrying_too_long"
    ORPHANS = "orphans"
    UNREADABLE_RECORDS = "unreadable_records"
    OVERSIZED = "oversized"
    LEDGER_FULL = "ledger_full"
    BROKER_FULL = "broker_full"
    BROKER_UNSEEN = "broker_unseen"
    BROKER_MESSAGES = "broker_messages"
    SUBSCRIPTION_REFUSED = "subscription_refused"
    MISSED_CHANGES = "missed_changes"
    RECONCILIATION_STUCK = "reconciliation_stuck"


@dataclass(frozen=True, slots=True)
class Issue:
    """Something that does not pass until a person acts.

    Attributes:
        code: what kind of issue it is.
        actor: who must act, in the words of `b24offline.errors.Actor`.
        message: what happened and what to do.
        subject: what the issue is about where one code can have several: a portal state, an event's name.
    """

    code: IssueCode
    actor: str
    message: str
    subject: str = ""

    @property
    def key(self) -> str:
        """The identity of the issue within its portal: the same while only numbers and wording change."""
        return ":".join((self.code, self.subject, self.actor))


def find_issues(
    portal: Portal,
    sample: HealthSample | None,
    dead_letters: int,
    now: datetime,
    *,
    dead_letter_seconds: float,
    adopts: bool,
) -> tuple[Issue, ...]:
    """Return all issues of a portal at ``now``.

    Args:
        portal: as the store has it.
        sample: None when the ledger cannot be reached.
        dead_letters: open ones.
        now: an aware datetime.
        dead_letter_seconds: the age at which a record that keeps failing is dead-lettered.
        adopts: whether this deployment looks for orphans; otherwise what is known of them is outdated.
    """
    if not portal.served:
        return ()
    found = [*_portal_state(portal, sample, now)]
    if dead_letters:
        do = f"List them: b24offline dead-letter list --portal {portal.name}. Then redrive or drop them."
        what = f"{dead_letters} dead letters wait for a decision. {do}"
        found.append(Issue(IssueCode.DEAD_LETTERS, "operator", what))
    if sample is None:
        what = "The ledger cannot be reached. Check Redis and B24_REDIS_URL, or start b24offline up."
        found.append(Issue(IssueCode.LEDGER_UNREACHABLE, "operator", what))
        return tuple(found)
    if sample.other_schema:
        found.append(Issue(IssueCode.LEDGER_SCHEMA, "operator", sample.other_schema))
    if portal.polled:
        found += _not_polled(sample, (now - portal.desired_since).total_seconds())
        found += _full_lanes(sample)
        found += _not_answering(sample)
    found += _ages(sample, dead_letter_seconds)
    if adopts and portal.polled:
        found += _orphans(sample, portal, now)
    found += _refusals(sample)
    found += _sizes(sample)
    found += _broker(sample)
    found += _reconciliation(portal, sample)
    return tuple(found)


def _portal_state(portal: Portal, sample: HealthSample | None, now: datetime) -> Iterator[Issue]:
    if portal.state is ObservedState.ACTIVE:
        return
    if portal.desired_state is DesiredState.PAUSED and not (sample and sample.open_batches):
        return
    actor = portal.state_actor or _ACTORS.get(portal.state, "nobody")
    message = portal.state_reason or f"The state of the portal is {portal.state}; no reason was recorded."
    age = (now - portal.state_since).total_seconds()
    if portal.state is ObservedState.PAUSED and age > LONG_PAUSE_SECONDS:
        actor = "operator" if actor == "nobody" else actor
        message = f"Polling has been suspended for {_span(age)}. {message}"
    if actor != "nobody":
        yield Issue(IssueCode.PORTAL_STATE, actor, message, portal.state)


def _not_polled(sample: HealthSample, wanted_seconds: float) -> Iterator[Issue]:
    planned = sample.next_poll_seconds
    late = wanted_seconds if planned is None else -planned
    if late > LATE_SECONDS and not sample.broker_full:
        do = "Check that beat and a worker for the queue b24offline.poll are running."
        what = f"The portal has not been polled: its next poll is {_span(late)} late. {do}"
        yield Issue(IssueCode.NOT_POLLED, "operator", what)


def _ages(sample: HealthSample, dead_letter_seconds: float) -> Iterator[Issue]:
    if sample.oldest_seconds > OLD_SECONDS:
        what = (
            f"A batch has been open for {_span(sample.oldest_seconds)}: a step waits or hangs, or the portal does not "
            "accept the acknowledgement. Look at the portal's state and at its running steps in Flower."
        )
        yield Issue(IssueCode.OLD_BATCH, "operator", what)
    if sample.oldest_retrying_seconds > dead_letter_seconds + DEAD_LETTER_SLACK_SECONDS:
        what = (
            f"A failed record has been retrying for {_span(sample.oldest_retrying_seconds)} and was not dead-lettered. "
            "Check that the database is reachable and that a worker for the queue b24offline.poll is running."
        )
        yield Issue(IssueCode.RETRYING_TOO_LONG, "operator", what)


def _full_lanes(sample: HealthSample) -> Iterator[Issue]:
    for lane, seconds in sample.full_lanes.items():
        if seconds > FULL_SECONDS:
            what = f"The lane {lane} has not been polled for {_span(seconds)}: the maximum number of batches is open."
            if held_by := sample.held_by.get(lane):
                what += f" The oldest wait for {', '.join(held_by)}. Search the log for their runs."
            yield Issue(IssueCode.GATE_FULL, "operator", what, lane)


def _not_answering(sample: HealthSample) -> Iterator[Issue]:
    calls = sorted(name for name, seconds in sample.silent.items() if seconds > SILENT_SECONDS)
    if calls:
        what = (
            f"The portal has not answered calls ({', '.join(calls)}) for {_span(max(sample.silent.values()))}. One "
            "call at a time is tried until it answers. If other portals answer, ask the vendor's support; else check "
            "DNS, the network and the certificates."
        )
        yield Issue(IssueCode.NOT_ANSWERING, "operator", what)


def _orphans(sample: HealthSample, portal: Portal, now: datetime) -> Iterator[Issue]:
    served = (now - max(portal.desired_since, portal.state_since)).total_seconds()
    unlooked = min(sample.unlooked_seconds, served)
    if portal.state is ObservedState.ACTIVE and unlooked > UNLOOKED_SECONDS:
        what = (
            f"The portal's reserved records have not been read through for {_span(unlooked)}, so records whose "
            "reservation was not answered may wait. Search the log for: look at reserved records cut off. It says why."
        )
        yield Issue(IssueCode.ORPHANS, "operator", what, "look")
    if sample.oldest_orphan_seconds > UNADOPTED_SECONDS:
        what = (
            f"{sample.orphans} reserved batches are unknown to the ledger and were not adopted, the oldest for "
            f"{_span(sample.oldest_orphan_seconds)}. Search the log for b24offline.adopt, and check that no other "
            f"deployment uses the connector {portal.connector}."
        )
        yield Issue(IssueCode.ORPHANS, "operator", what)


def _refusals(sample: HealthSample) -> Iterator[Issue]:
    if sample.unreadable:
        what = (
            f"{sample.unreadable} reserved records cannot be read, so they cannot be acknowledged. They do no harm and "
            "the portal deletes them after 30 days; note their contents from the log lines about unreadable records."
        )
        yield Issue(IssueCode.UNREADABLE_RECORDS, "operator", what)
    for name in sample.refused:
        what = (
            f"The portal refuses to subscribe {name}. Correct the route, or grant the application the scope and "
            "install it again; the portal's own error is in the log."
        )
        yield Issue(IssueCode.SUBSCRIPTION_REFUSED, "operator", what, name)


def _sizes(sample: HealthSample) -> Iterator[Issue]:
    if sample.oversized:
        what = (
            f"The portal sent more than it may: {sample.oversized}. Other events are processed, in smaller parts. Find "
            "out what sends so much (docs/symptoms.md). This issue ends an hour after the last time."
        )
        yield Issue(IssueCode.OVERSIZED, "operator", what)
    if sample.memory_share > MEMORY_SHARE:
        what = (
            f"The Redis of the ledger uses {sample.memory_share:.0%} of its memory; nothing is polled above "
            f"{MEMORY_SHARE:.0%}. Raise its maxmemory, then find what fills it."
        )
        yield Issue(IssueCode.LEDGER_FULL, "operator", what)


def _broker(sample: HealthSample) -> Iterator[Issue]:
    if sample.broker_full:
        what = (
            f"No portal is polled, because the broker is full: {sample.broker_full}. Start more workers for the "
            "long queues, find out why theirs are slow, or give the broker more memory. Polling then resumes by itself."
        )
        yield Issue(IssueCode.BROKER_FULL, "operator", what)
    if sample.broker_unseen:
        what = (
            f"The broker does not say how many messages wait ({sample.broker_unseen}), so polling does not stop when "
            "it is full. Bring it back, or let the workers' user declare queues passively (RabbitMQ) or call INFO and "
            "LLEN (Redis)."
        )
        yield Issue(IssueCode.BROKER_UNSEEN, "operator", what)
    if sample.refused_messages:
        what = (
            f"{sample.refused_messages} messages of the broker were refused: this deployment did not send them. Find "
            "out who else can write to its queues, and separate the stacks (docs/deploy.md). This issue ends a day "
            "after the last one."
        )
        yield Issue(IssueCode.BROKER_MESSAGES, "operator", what)


def _reconciliation(portal: Portal, sample: HealthSample) -> Iterator[Issue]:
    last = sample.reconciled
    if last and last.missed + last.gone:
        what = (
            f"Reconciliation ({last.why}) found {last.missed + last.gone} changes whose events never came, and ran "
            "them. Find out why they were missed (docs/symptoms.md). This issue ends with a reconciliation that "
            f"finds none: b24offline reconcile --portal {portal.name}"
        )
        yield Issue(IssueCode.MISSED_CHANGES, "operator", what)
    if portal.polled and sample.unreconciled_seconds > LONG_RECONCILIATION_SECONDS:
        what = (
            f"A reconciliation was requested {_span(sample.unreconciled_seconds)} ago and has not ended. Search the "
            "log for b24offline.reconcile: each turn says what it waits for."
        )
        yield Issue(IssueCode.RECONCILIATION_STUCK, "operator", what)


def _span(seconds: float) -> str:
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86_400 else f"{seconds / 86_400:.1f} days"
