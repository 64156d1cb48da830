"""The model of the protocol: no change is lost, unless a rule is off; and it does what the code and the emulator do."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b24offline.delivery import SettleView
from b24offline.delivery.settlement import needs_look, plan_settlement
from b24offline.emulator import Journal, OfflineQueue, Selection, Sequence
from tests.model.explore import explore
from tests.model.portal_moves import change, network
from tests.model.rule_table import ASKED_FOR, LATE, LINGER, LOSS, NEEDED, PAIR, SPARE, TOGETHER, TWICE, Case
from tests.model.sentences import reply
from tests.model.settle_moves import begin, go_on
from tests.model.state import FREE, Batch, Bounds, Call, Record, Rules, Run, initial
from tests.support.core_events import PID, event_of, message_of, record_of

pytestmark = [pytest.mark.unit, pytest.mark.timeout(3600)]  # minutes on a busy machine


@pytest.mark.parametrize(
    "bounds",
    [LOSS, TWICE, replace(LOSS, freezes=1), LINGER, PAIR, LATE],
    ids=["ledger lost", "a call executed twice", "lost, a worker cut off", "batches linger", "two pipelines", "late"],
)
def test_with_all_rules_on_no_change_is_lost_and_every_state_drains(bounds: Bounds) -> None:
    found = explore(Rules(), bounds, drains=True)
    assert (found.violation, reply(found.history)) == ("", [])
    assert found.complete
    assert found.states > 10_000


@pytest.mark.parametrize("case", [*NEEDED, *ASKED_FOR, *TOGETHER], ids=lambda case: case.name)
def test_without_the_rule_a_change_is_lost_and_the_shortest_history_is_known(case: Case) -> None:
    found = explore(case.rules, case.bounds, drains=case.drains)
    assert case.violation in found.violation
    assert len(found.history) == case.steps, "\n".join(reply(found.history))
    assert all(reply(found.history))


@pytest.mark.parametrize("case", SPARE, ids=lambda case: case.name)
def test_another_rule_covers_for_a_spare_one(case: Case) -> None:
    found = explore(case.rules, replace(case.bounds, repeats=0))  # with repeats: make model
    assert (found.violation, reply(found.history)) == ("", [])
    assert found.complete


OUTCOMES = {"fresh": "unfinished", "done": "succeeded", "failed": "failed"}
SITUATIONS = list(itertools.product(OUTCOMES, ["here", "nacked", "gone"], *[[False, True]] * 3))


def fate_in_the_model(run: str, where: str, in_doubt: bool, newer: bool, young: bool) -> str:
    records = [Record(1, 1, where == "nacked", 0)] if where != "gone" else []
    records += [Record(2, FREE, nacked=False, stamp=0)] if newer else []
    state = initial(Bounds())._replace(
        records=tuple(records),
        runs=(Run(1, 0, 0, run, where == "nacked", 1),),
        batches=(Batch(1, 1, 0, int(young), 0),),
        in_doubt=int(in_doubt),
    )
    for label, after in begin(state, Rules(), Bounds()):
        if label[0] != "settle_looks":
            return {"settle_clears": "clear", "settle_finds_gone": "gone"}[str(label[0])]
        for then, _ in go_on(after, Rules(), Bounds()):
            return str(then[0]).removeprefix("settle_will_")
    return "keep"


def fate_in_the_plan(run: str, where: str, in_doubt: bool, newer: bool, young: bool) -> str:
    live = {} if where == "gone" else {1: record_of(1, "1", PROCESS_ID=PID, ERROR=str(int(where == "nacked")))}
    view = SettleView(
        outcomes={1: OUTCOMES[run]},
        events={1: event_of(1, "1")},
        live=live,
        newer={1: newer},
        in_doubt_until_ms={message_of("1"): 1_000 + int(in_doubt)},
        now_ms=1_000,
        nackable_at_ms=1_000 + int(young),
    )
    plan = plan_settlement(view if needs_look(view) else replace(view, live=None))
    fates = {"supersede": plan.superseded, "clear": plan.clear, "nack": plan.nack, "gone": plan.gone}
    return next((fate for fate, records in fates.items() if records), "keep")


@pytest.mark.parametrize("situation", SITUATIONS, ids=str)
def test_the_model_settles_as_the_plan_does(situation: tuple[str, str, bool, bool, bool]) -> None:
    assert fate_in_the_model(*situation) == fate_in_the_plan(*situation)


class Twin:
    """The model's portal and the emulator's queue, told the same; process ids are paired as they arise."""

    def __init__(self) -> None:
        numbers = iter(range(1, 1_000))
        self.queue = OfflineQueue(Journal(Sequence()), lambda: f"p{next(numbers)}")
        self.state = initial(Bounds(changes=99, repeats=0))
        self.names = {FREE: ""}
        self.ids: dict[int, int] = {}
        self.now = 0.0
        self.change()

    def change(self) -> None:
        self.now += 1
        record = self.queue.enqueue(self.now, "c", "ONCRMDEALUPDATE", {"FIELDS": {"ID": "1"}})
        ((label, self.state),) = change(self.state, Bounds())
        self.ids[int(str(label[1]))] = record.id

    def reserve(self, *, nacked: bool) -> None:
        name, rows = self.queue.reserve(self.now, "c", Selection(), nacked=nacked)
        for record in self.state.records:
            if record.process == FREE and record.nacked == nacked:
                self.play(Call("get-nacked" if nacked else "picked", 0, record.id, 0, 1, owner=False), name)
                assert [row.id for row in rows] == [self.ids[record.id]]
                return
        assert not rows

    def play(self, call: Call, name: str = "") -> None:
        before = {record.process for record in self.state.records}
        for _, after in network(self.state._replace(calls=(call,)), Rules(), Bounds()):
            self.state = after
        self.state = self.state._replace(calls=())
        for process in {record.process for record in self.state.records} - before:
            self.names[process] = name

    def clear(self, process: int, record: int) -> None:
        self.queue.clear_ids(self.now, "c", self.names[process], [self.ids[record]])
        self.play(Call("clear", process, record, 0, 1, owner=False))

    def error(self, process: int) -> None:
        messages = {row.message_id for row in self.queue.records()}
        self.queue.report(self.now, "c", self.names[process], messages)
        self.play(Call("error", process, 0, 0, 1, owner=False))

    def mine(self) -> list[tuple[int, str, bool]]:
        return [(self.ids[one.id], self.names[one.process], one.nacked) for one in self.state.records]

    def theirs(self) -> list[tuple[int, str, bool]]:
        return sorted((row.id, row.process_id, row.nacked) for row in self.queue.records())


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["change", "get", "get nacked", "clear", "error"]), st.integers(0, 5)), max_size=25
    )
)
def test_the_models_portal_does_what_the_emulators_queue_does(calls: list[tuple[str, int]]) -> None:
    twin = Twin()
    for what, which in calls:
        reserved = [record for record in twin.state.records if record.process != FREE]
        if what == "change":
            twin.change()
        elif what in {"get", "get nacked"}:
            twin.reserve(nacked=what == "get nacked")
        elif reserved and what == "clear":
            record = reserved[which % len(reserved)]
            twin.clear(record.process, record.id)
        elif reserved:
            twin.error(reserved[which % len(reserved)].process)
        assert twin.mine() == twin.theirs()
