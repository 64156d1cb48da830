"""Row 11: the broker dies while tasks run, ours and those of another stack, which acknowledges late."""

from __future__ import annotations

import time
from functools import partial

from celery import Celery

from tests.faults.brokers import RabbitBroker, ValkeyBroker
from tests.faults.row import Plan, fault
from tests.faults.rows_neighbours import other_stack
from tests.faults.stage import Stage, wait_until

OWN = Plan(own_broker=True)
SHARED = Plan(own_broker=True, objects=200, variables={"B24_EXTERNAL_QUEUES": "shop"})
STOCKTAKES = 4


def _broker_away(stage: Stage, seconds: float) -> None:
    stage.settle_some()
    stage.journal.tell("slow", 0.2)
    stage.begin(30, 3)
    _away(stage, seconds)
    stage.journal.tell_nothing()
    stage.change(10, "crm_contact")
    revive(stage)


def _away(stage: Stage, seconds: float) -> None:
    stage.broker.kill()
    time.sleep(seconds)
    stage.broker.start()
    stage.noted(f"broker killed for {seconds:g} s")


@fault(11, "broker has too little memory for 40 s", brokers=("rabbitmq",), drain_seconds=240)
def broker_out_of_memory(stage: Stage) -> None:
    """It confirms nothing, for longer than is waited for it."""
    assert isinstance(stage.broker, RabbitBroker)
    stage.settle_some()
    stage.journal.tell("slow", 2)
    stage.begin(30, 3)
    stage.broker.have_memory(enough=False)
    stage.change(10, "crm_contact")
    time.sleep(40)
    stage.expect(len(stage.control.records()) >= 10, "nothing goes on while it confirms nothing")
    stage.broker.have_memory(enough=True)
    stage.noted("too little memory for 40 s")
    stage.journal.tell_nothing()
    revive(stage)


def revive(stage: Stage) -> None:
    """What a supervisor does: starts what has ended, until all is settled."""
    ended: list[str] = []

    def all_settled() -> bool:
        for process in (*stage.workers, *stage.beats, *stage.neighbours):
            if not process.alive:
                ended.append(process.name)
                process.kill()
                process.start()
        return stage.empty()

    wait_until(all_settled, "all settles, dead processes being restarted", 150)
    stage.tell(f"ended by themselves: {', '.join(ended) or 'none'}")


for seconds in (0.2, 3, 12):
    fault(11, f"broker killed for {seconds:g} s", plan=OWN)(partial(_broker_away, seconds=seconds))


@fault(11, "broker killed for 60 s, another stack's late tasks in flight", plan=SHARED, repeats=3, drain_seconds=240)
def broker_away_beside_another_stack(stage: Stage) -> None:
    """In flight are our steps, steps of ours that the other stack runs, and tasks that are only its own."""
    other_stack(stage)
    stage.settle_some()
    stage.control.change("crm_deal", "update", count=2, fields={"CATEGORY_ID": "5"})
    wait_until(stage.empty, "the other stack takes part", 90)
    stage.journal.tell("slow", 0.2)
    stage.redis.set("shop:slow", "3")
    before, announced = stage.journal.count("effect"), stage.redis.llen("shop:began")
    with Celery("shop", broker=stage.broker.url) as shop:
        for number in range(STOCKTAKES):
            shop.send_task("shop.stocktake", args=(number,), queue="shop")
    stage.control.change("crm_deal", "update", count=3, fields={"CATEGORY_ID": "7"})
    stage.change(30, "crm_contact")
    wait_until(lambda: stage.journal.count("effect") >= before + 3, "our handlers run")
    wait_until(lambda: stage.redis.llen("shop:began") >= announced + 2, "both of the other stack's processes are busy")
    _away(stage, 60)
    stage.redis.delete("shop:slow")
    stage.journal.tell_nothing()
    stage.change(10)
    revive(stage)
    if not isinstance(stage.broker, ValkeyBroker):
        # Without a file a Valkey forgets what was in it: what only the other stack knows of is gone with it.
        done = {str(number) for number in range(STOCKTAKES)}
        wait_until(lambda: done <= set(stage.redis.lrange("shop:counted", 0, -1)), "the other stack's own tasks", 90)


fault(11, "ledger and broker killed for 3 s", repeats=None, overlap=True, brokers=("valkey",))(
    partial(_broker_away, seconds=3)
)
