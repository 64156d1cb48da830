"""What happens in our ledger and our workers: batches open and close, runs begin and end, all of it is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .state import RUNNING, Batch, Bounds, Key, Rules, Run, State, Straggler, run_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .state import Move


def opened(state: State, batch: Batch, rules: Rules, bounds: Bounds, *, nacked: bool) -> State:
    """Return the ledger after a batch was written; nothing changes where its process id is open already."""
    if any(one.process == batch.process for one in state.batches):
        return state
    runs = list(state.runs)
    for pipeline in bounds.names:
        known = run_of(state, batch.record, batch.stamp, pipeline)
        if known is None:
            runs.append(Run(batch.record, batch.stamp, pipeline, "fresh", nacked, 1))
        elif nacked and not known.nacked and _starts_again(known, rules):
            runs.remove(known)
            runs.append(known._replace(state="fresh", nacked=True, attempt=known.attempt + 1))
    orphans = tuple(entry for entry in state.orphans if entry[0] != batch.process)
    return state._replace(batches=tuple(sorted((*state.batches, batch))), runs=tuple(sorted(runs)), orphans=orphans)


def _starts_again(run: Run, rules: Rules) -> bool:
    return rules.own_run_when_retrying and (run.state == "failed" or rules.all_runs_when_retrying)


def closed(state: State, batch: Batch, rules: Rules) -> State:
    """Return the ledger after a batch was dropped: its run goes with it, unless another batch has the same delivery."""
    batches = tuple(one for one in state.batches if one is not batch)
    settlers = tuple(one for one in state.settlers if one.process != batch.process or one.stage == "clear")
    runs, stragglers = state.runs, state.stragglers
    if not any(one.record == batch.record and one.stamp == batch.stamp for one in batches):
        of_it = [run for run in runs if run.record == batch.record and run.stamp == batch.stamp]
        stragglers = left_running(stragglers, of_it, rules)
        if rules.unique_attempts:
            # The numbers of these go on: whoever has an older one can only do good.
            kept = {run[:3] for run in of_it if run.state != "done" or rules.numbers_of_all_runs}
            stragglers = tuple(one for one in stragglers if one[:3] not in kept)
        runs = tuple(run for run in runs if run not in of_it)
    return state._replace(batches=batches, runs=runs, stragglers=stragglers, settlers=settlers)


def left_running(stragglers: tuple[Straggler, ...], runs: list[Run], rules: Rules) -> tuple[Straggler, ...]:
    """Return the stragglers after the ledger forgot these runs. One whose attempt can never match again can only do
    good."""
    if rules.unique_attempts:
        return stragglers
    more = {Straggler(*run[:3], run.attempt, run.state == "fresh") for run in runs if run.state in RUNNING}
    return tuple(sorted({*stragglers, *more}))


def run_moves(state: State, rules: Rules, bounds: Bounds) -> Iterator[Move]:
    """Yield what a run may do: begin again, succeed, fail for good, lose its lease; and the end of each straggler.

    A run begins with its batch: whatever a later beginning leads to, beginning again leads to as well.
    """
    for run in state.runs:
        if run.state not in RUNNING:
            continue
        rest = tuple(one for one in state.runs if one is not run)
        name = (*run[:3], run.attempt)
        fresh = run.state == "fresh"
        done = tuple(sorted((*rest, run._replace(state="done"))))
        yield ("run_succeeds", *name, fresh), _completed(state, run, fresh, rules, bounds)._replace(runs=done)
        if not fresh:
            yield ("run_begins_again", *name), state._replace(runs=tuple(sorted((*rest, run._replace(state="fresh")))))
        if not run.nacked or not rules.retrying_never_fails:
            failed = tuple(sorted((*rest, run._replace(state="failed"))))
            yield ("run_fails", *name), state._replace(runs=failed)
            if bounds.deduplicates:
                yield ("run_writes_and_fails", *name), _wrote(state, run, fresh, rules)._replace(runs=failed)
        if state.freezes:
            again = run._replace(attempt=run.attempt + 1)  # and may use what was read for the first
            straggler = Straggler(*name, fresh)
            yield (
                ("run_freezes", *name),
                state._replace(
                    runs=tuple(sorted((*rest, again))),
                    stragglers=tuple(sorted({*state.stragglers, straggler})),
                    freezes=state.freezes - 1,
                ),
            )
    for straggler in state.stragglers:
        found = run_of(state, *straggler[:3])
        runs = state.runs
        if found and found.attempt == straggler.attempt and found.state not in {"done", "failed"}:
            runs = tuple(sorted(one._replace(state="done") if one is found else one for one in runs))
        ended = state._replace(runs=runs, stragglers=tuple(one for one in state.stragglers if one is not straggler))
        yield (
            ("straggler_ends", *straggler),
            ended._replace(uncovered=_left(state, straggler.pipeline, straggler.fresh)),
        )


def _completed(state: State, run: Run, fresh: bool, rules: Rules, bounds: Bounds) -> State:
    """Return the state after a run was completed: its pipeline is covered by what the target has of it."""
    if bounds.deduplicates:
        state = _wrote(state, run, fresh, rules)
        fresh = dict(state.written)[_key(run, rules)]
    return state._replace(uncovered=_left(state, run.pipeline, fresh))


def _wrote(state: State, run: Run, fresh: bool, rules: Rules) -> State:
    """Return the state after a write: the target keeps what it took under the same key before."""
    key = _key(run, rules)
    return (
        state if key in dict(state.written) else state._replace(written=tuple(sorted((*state.written, (key, fresh)))))
    )


def _key(run: Run, rules: Rules) -> Key:
    return run.record, run.stamp, run.pipeline, run.nacked and rules.key_of_nacked


def _left(state: State, pipeline: int, fresh: bool) -> tuple[int, ...]:
    """Return the pipelines that are uncovered after a run of this one was completed."""
    return tuple(one for one in state.uncovered if not (fresh and one == pipeline))


def loss(state: State, rules: Rules, bounds: Bounds) -> Iterator[Move]:
    """Yield the loss of the whole ledger; the change of its epoch is noticed at once, which is the earliest."""
    if not state.losses or not (state.batches or state.in_doubt or state.poll or state.calls):
        return
    calls = tuple(sorted(call._replace(owner=False) for call in state.calls))
    # Another ledger counts attempts from elsewhere: whoever was cut off before can only do good.
    stragglers = () if rules.unique_attempts else left_running(state.stragglers, list(state.runs), rules)
    yield (
        ("ledger_lost",),
        state._replace(
            runs=(),
            batches=(),
            poll=0,
            in_doubt=0,
            recovery=bounds.recovery if rules.recovery_pause else 0,
            epoch=bounds.in_doubt if rules.epoch_age else 0,
            looks=(),
            orphans=(),
            lane=(),
            settlers=tuple(one for one in state.settlers if one.stage == "clear" and not rules.lease_to_clear),
            calls=calls,
            stragglers=stragglers,
            losses=state.losses - 1,
        ),
    )
