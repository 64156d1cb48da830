"""Judges a fault run by what the portal and the handlers saw. Pure; it knows nothing of our ledger.

Every number of a `Verdict` but `invisible` and `repeats` must be zero after a drain.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from tests.faults.evidence import Evidence, Moment, Name, Span

FREE = ""
REMOVED = frozenset({"cleared", "deleted_by_error", "expired", "dropped"})
SHOWN = 5


@dataclass(frozen=True)
class Verdict:
    """What was found; each tuple holds one sentence for each case.

    Attributes:
        lost: objects whose last completed run began before their last visible change, with nothing that waits.
        stale: objects whose last completed run saw something else than the portal shows now.
        unfinished: records cleared without recorded success, skip or supersession.
        destroyed: records deleted by an `error` call though no nacked record of their message was left free.
        stuck: records neither free, nor cleared, nor knowingly nacked or retrying.
        overlap: two runs of one object and pipeline at once.
        flooded: what the ledger held of the portal beyond its bounds.
        repeats: effects of one event and pipeline beyond the first.
        invisible: changes that the portal never queued, as without a subscription; nobody can see them.
    """

    lost: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    destroyed: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    overlap: tuple[str, ...] = ()
    flooded: tuple[str, ...] = ()
    repeats: int = 0
    invisible: int = 0


def judge(found: Evidence) -> Verdict:
    """Return all checks of one fault run."""
    replay = _Replay(found.moments)
    lost, stale = _lost_and_stale(found, replay)
    return Verdict(
        lost=lost,
        stale=stale,
        unfinished=tuple(_unfinished(found)),
        destroyed=tuple(replay.destroyed),
        stuck=tuple(
            f"record {one.record} of {one.name} is still reserved"
            for one in replay.live.values()
            if one.process_id != FREE and one.record not in found.known
        ),
        overlap=tuple(_overlaps(found.spans)),
        flooded=tuple(_floods(found)),
        repeats=_repeats(found.spans),
        invisible=_invisible(found),
    )


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdicts on several portals as one."""
    cases = ("lost", "stale", "unfinished", "destroyed", "stuck", "overlap", "flooded")
    return Verdict(
        **{what: tuple(case for one in verdicts for case in getattr(one, what)) for what in cases},
        repeats=sum(one.repeats for one in verdicts),
        invisible=sum(one.invisible for one in verdicts),
    )


class _Replay:
    """The queue at the end, and the destruction on the way there."""

    def __init__(self, moments: Iterable[Moment]) -> None:
        self.live: dict[int, Moment] = {}
        self.destroyed: list[str] = []
        self._deleted: list[Moment] = []
        for one in moments:
            if self._deleted and not _same_call(self._deleted[-1], one):
                self._judge_deleted()
            if one.kind == "deleted_by_error":
                self._deleted.append(one)
            if one.kind in REMOVED:
                self.live.pop(one.record, None)
            else:
                self.live[one.record] = one
        self._judge_deleted()

    def _judge_deleted(self) -> None:
        """A free nacked record of the same message stands for the deleted one: it runs again, and reads the object."""
        for gone in self._deleted:
            if not any(
                one.message == gone.message and one.nacked and one.process_id == FREE for one in self.live.values()
            ):
                self.destroyed.append(f"record {gone.record} of {gone.name} was deleted by error of batch {gone.by}")
        self._deleted.clear()


def _same_call(deleted: Moment, following: Moment) -> bool:
    if following.kind == "deleted_by_error":
        return following.by == deleted.by and following.message == deleted.message
    return following.kind == "nacked" and following.before == deleted.by and following.message == deleted.message


def _completed(spans: Iterable[Span]) -> dict[tuple[Name, str], list[tuple[float, Span]]]:
    """Object and pipeline -> its completed runs as (start of the run, last span), by start."""
    began: dict[str, float] = {}
    for one in spans:
        began[one.run] = min(one.start, began.get(one.run, one.start))
    found: dict[tuple[Name, str], list[tuple[float, Span]]] = defaultdict(list)
    for one in spans:
        if one.last and one.ok:
            found[one.name, one.pipeline].append((began[one.run], one))
    for runs in found.values():
        runs.sort(key=lambda pair: pair[0])
    return found


def _lost_and_stale(found: Evidence, replay: _Replay) -> tuple[tuple[str, ...], tuple[str, ...]]:
    completed = _completed(found.spans)
    waiting = {one.name for one in replay.live.values() if one.nacked or one.record in found.known}
    last_change = {one.name: one.seq for one in found.changes}
    visible = {
        (one.name, one.event): one for one in found.moments if one.kind in ("queued", "restamped") and one.name[1]
    }
    lost, stale = [], []
    for (name, _), seen in visible.items():
        if name in waiting:
            continue
        for pipeline in found.pipelines.get(seen.event, ()):
            runs = completed.get((name, pipeline), [])
            if not runs or runs[-1][0] < seen.wall:
                lost.append(f"{name} changed at {seen.wall:.3f} (record {seen.record}), no run of {pipeline} since")
            elif last_change.get(name, 0) <= seen.seq and runs[-1][1].saw not in ("", found.objects.get(name)):
                stale.append(f"{name}: the last run of {pipeline} saw an older state")
    return tuple(lost), tuple(stale)


def _unfinished(found: Evidence) -> Iterator[str]:
    done: dict[tuple[str, str], float] = {}
    for one in found.spans:
        if one.last and one.ok and one.end is not None:
            run = (one.delivery, one.pipeline)
            done[run] = min(one.end, done.get(run, one.end))
    queued: dict[str, list[Moment]] = defaultdict(list)
    for one in found.moments:
        if one.kind == "queued":
            queued[one.message].append(one)
        if one.kind != "cleared":
            continue
        missing = [
            pipeline
            for pipeline in found.pipelines.get(one.event, ())
            if done.get((one.delivery, pipeline), float("inf")) > one.wall
        ]
        superseded = one.by == "clear" and queued[one.message][-1].record > one.record
        if missing and not superseded:
            yield f"record {one.delivery} of {one.name} was cleared without a run of {', '.join(missing)}"


def _overlaps(spans: Iterable[Span]) -> Iterator[str]:
    groups: dict[tuple[Name, str], dict[str, list[Span]]] = defaultdict(lambda: defaultdict(list))
    for one in spans:
        if one.name[1]:
            groups[one.name, one.pipeline][one.run].append(one)
    for (name, pipeline), runs in groups.items():
        hulls = [
            (min(one.start for one in run), max(one.last_sign for one in run), run[0].delivery) for run in runs.values()
        ]
        for first, second in combinations(sorted(hulls), 2):
            if second[0] < first[1]:
                yield f"{name} {pipeline}: {first[2]} at {first[0]:.3f} beside {second[2]} at {second[0]:.3f}"
        for run in runs.values():
            for one, other in combinations(sorted(run, key=lambda span: span.start), 2):
                if other.start < one.last_sign:
                    yield f"{name} {pipeline}: {one.delivery} twice at {other.start:.3f}"


def _floods(found: Evidence) -> Iterator[str]:
    """Say of each bound by how much it was passed at most, and when first."""
    for what in ("rows", "record_bytes", "total_bytes") if found.bounds else ():
        most = getattr(found.bounds, what)
        beyond = [one for one in found.holdings if getattr(one, what) > most]
        if beyond:
            reached = max(getattr(one, what) for one in beyond)
            yield f"{what} in the ledger reached {reached} of {most}, beyond it since {beyond[0].wall:.3f}"


def _repeats(spans: Iterable[Span]) -> int:
    effects: dict[tuple[str, str], int] = defaultdict(int)
    for one in spans:
        if one.effect is not None:
            effects[one.delivery, one.pipeline] += 1
    return sum(number - 1 for number in effects.values())


def _invisible(found: Evidence) -> int:
    """Change between which and the object's next change the portal queued nothing for it."""
    numbers: dict[Name, list[int]] = defaultdict(list)
    for one in found.moments:
        if one.kind in ("queued", "restamped"):
            numbers[one.name].append(one.seq)
    by_object: dict[Name, list[int]] = defaultdict(list)
    for one in found.changes:
        by_object[one.name].append(one.seq)
    unseen = 0
    for name, seqs in by_object.items():
        for this, following in zip(seqs, [*seqs[1:], 1 << 62], strict=True):
            unseen += not any(this < seq < following for seq in numbers[name])
    return unseen
