"""The broker: whether it answers, who reads our queues and those that steps are sent to, and whether beat ticks."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from b24offline import keys
from b24offline.doctor.check import Check, counted, failed, ok, skipped, warning
from b24offline.doctor.unreachable import unreachable
from b24offline.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from redis import Redis

_DEEP: Final = 10_000


@dataclass(frozen=True, slots=True)
class BrokerFacts:
    """What broker and workers answered.

    Attributes:
        error: why the broker cannot be used; "" when it can.
        readers: queue -> names of the workers that read it.
        waiting: queue -> messages that wait in it.
    """

    error: str = ""
    readers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)


def broker_facts(url: str, queues: Collection[str], external: Collection[str]) -> BrokerFacts:
    """Ask the broker, and by it the workers."""
    from b24offline.tasks import queue_readers  # noqa: PLC0415 - only this check needs Celery

    try:
        return BrokerFacts("", *queue_readers(url, queues, external))
    except BrokerUnavailable as error:
        return BrokerFacts(str(error))


def broker_checks(
    facts: BrokerFacts, where: str, queues: Iterable[str], external: Iterable[str], *, remote_control: bool
) -> Iterator[Check]:
    """Yield the checks of broker and queues."""
    if facts.error:
        remedy = "Start the broker, or correct CELERY_BROKER_URL."
        yield unreachable("broker", where, facts.error, "CELERY_BROKER_URL", remedy=remedy)
        return
    yield ok("broker", f"It answers at {where}.")
    for queue in queues:
        yield _queue(queue, facts, remote_control=remote_control)
    for queue in external:
        name = f"external queue {queue}"
        if readers := facts.readers.get(queue):
            yield ok(name, f"Read by {', '.join(readers)}.")
        else:
            yield warning(
                name,
                f"No worker that reads it answered; {counted(facts.waiting.get(queue, 0), 'message')} in it.",
                "Start that stack's worker, or remove the queue from B24_EXTERNAL_QUEUES. Workers without remote "
                "control do not answer.",
            )


def _queue(queue: str, facts: BrokerFacts, *, remote_control: bool) -> Check:
    name, waiting = f"queue {queue}", facts.waiting.get(queue, 0)
    holds = f"{counted(waiting, 'message')} in it"
    readers = facts.readers.get(queue, ())
    if not readers and not remote_control:
        return skipped(name, f"{holds}; with B24_REMOTE_CONTROL=false workers do not answer.")
    if not readers:
        return failed(
            name,
            f"No worker reads it; {holds}.",
            "Start a worker: celery -A b24offline worker, or b24offline up.",
        )
    if waiting > _DEEP:
        return warning(name, f"Read by {', '.join(readers)}; {holds}.", "Start more workers.")
    return ok(name, f"Read by {', '.join(readers)}; {holds}.")


def ticks(redis: Redis, prefix: str, seconds: float) -> bool:
    """Return whether beat's tick was seen within so many seconds. Raise RedisError."""
    deadline = time.monotonic() + seconds
    while not redis.exists(keys.once_per(prefix, "tick")):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def beat_check(*, seen: bool, seconds: float) -> Check:
    """Return the check of beat."""
    if seen:
        return ok("beat", "It ticks.")
    return failed(
        "beat",
        f"No tick within {seconds:.0f} s: nothing is polled.",
        "Start beat, exactly one (celery -A b24offline beat, or b24offline up), and a worker for b24offline.poll.",
    )
