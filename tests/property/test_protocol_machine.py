"""The protocol in any order of events, deaths and losses: ledger, poller and settler against the emulated portal.

The histories are the same every time. Other ones:

    pytest tests/property/test_protocol_machine.py -k any_order --hypothesis-seed=random
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RULE_MARKER, run_state_machine_as_test

from b24offline.store import Cipher, Store
from tests.support.courses import TimedRedis
from tests.support.protocol_rules import ProtocolMachine
from tests.support.protocol_sabotage import EVERY, GUARDS, OVERLAPS, REPORTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from b24offline.supervisor import EmbeddedValkey

HISTORIES = 200
"""With every rule, with those of reports, with those of overlaps; a machine without a guard gets as many."""
STEPS = 50
SEEDS = range(1, 6)
"""Of which one shows that a guard is off; most are shown by the first."""
MUST_BE_REACHED = (
    "moved",
    "deleted_by_error",
    "batches_adopted",
    "batches_retrying",
    "events_superseded",
    "error late",
    "error twice",
    "clear late",
    "get twice",
    "settle: UnknownAnswer",
)
"""Without these the histories would show little; the names are those of `ProtocolMachine.reached`."""

FOUND = "no run of|not drained|Verdict|is nacked|without"
"""What a history says that found something, and a mistake of the test does not."""


def named(name: str) -> Callable[..., None]:
    """Return a rule's method that is a rule no more."""

    def method(self: ProtocolMachine, *args: object, **more: object) -> None:
        getattr(ProtocolMachine, name)(self, *args, **more)

    return method


@pytest.fixture
def stores(valkey: EmbeddedValkey, tmp_path: Path) -> Iterator[dict[str, Any]]:
    redis = TimedRedis.from_url(valkey.url, decode_responses=True)
    store = Store(f"sqlite:///{tmp_path}/store.db", Cipher(["A" * 43 + "="]))
    store.create_schema()
    yield {"redis": redis, "store": store, "names": (f"p{number}" for number in itertools.count())}
    redis.close()
    store.engine.dispose()


def machine_of(stores: dict[str, Any], only: tuple[str, ...] = ()) -> type[ProtocolMachine]:
    """Return a machine that has counted nothing yet, with some rules only if told."""
    rules = {name for name, what in vars(ProtocolMachine).items() if hasattr(what, RULE_MARKER)}
    assert rules > set(only)
    hidden = {name: named(name) for name in rules - set(only)} if only else {}
    return type("Machine", (ProtocolMachine,), {**stores, **hidden, "steps": 0, "histories": 0, "reached": Counter()})


def play(machine: type[ProtocolMachine], histories: int, chosen: int | None) -> None:
    """Play histories; raises what one of them found."""
    if chosen is not None:
        seed(chosen)(machine)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=histories,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=(Phase.generate,),  # shrinking takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )


def play_all(machine: type[ProtocolMachine]) -> None:
    """Play the histories of every seed, or up to what one of them finds."""
    for chosen in SEEDS:
        play(machine, HISTORIES, chosen)


@pytest.mark.timeout(2400)  # 40 s of CPU, more on a machine that does other work
def test_nothing_is_lost_in_any_order(
    stores: dict[str, Any], request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = 1 if request.config.getoption("--hypothesis-seed", None) is None else None
    machines = [machine_of(stores, only) for only in (EVERY, REPORTS, OVERLAPS)]
    for machine in machines:
        play(machine, HISTORIES, chosen)
    steps, histories = sum(one.steps for one in machines), sum(one.histories for one in machines)
    reached = sum((one.reached for one in machines), Counter())
    with capsys.disabled():
        print(f"\n{steps} steps in {histories} histories of the protocol")
    assert steps >= 10_000
    assert chosen is None or {what for what in MUST_BE_REACHED if not reached[what]} == set(), reached


@pytest.mark.parametrize("guard", GUARDS)
def test_the_machine_notices(guard: str, stores: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    off, only = GUARDS[guard]
    off(monkeypatch)
    machine = machine_of(stores, only)
    with pytest.raises(AssertionError, match=FOUND) as found:
        play_all(machine)
    print(f"{guard}: {machine.steps} steps, {found.value}")
