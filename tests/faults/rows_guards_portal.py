"""Row 40 for what guards reservations, tokens and late messages; and row 26 after a batch has closed.

Each play is the same whether its guard is on or off: played with the guard on, every number of the checker is zero.
"""

from __future__ import annotations

import json
import time
from typing import Any, Final

import requests
from werkzeug.wrappers import Request, Response

from tests.faults import late_copies
from tests.faults.crowd import Crowd, names
from tests.faults.row import UNEXPECTED, Plan, fault
from tests.faults.rows_answers import fail_some
from tests.faults.rows_clock import LIBRARY, PACKAGE, ledger_set_back
from tests.faults.rows_crowd import hangs
from tests.faults.rows_guards import without
from tests.faults.sabotage_portal import LATE_SAVE_SECONDS
from tests.faults.stage import CONNECTOR, PORTAL, Stage, wait_until
from tests.support.served import served
from tests.support.waiting import comes


@without(
    "slots per portal",
    red=(UNEXPECTED,),
    drain_seconds=30,
    attempts=5,
    portals=names("well", 9),
    concurrency=4,
    objects=30,
    variables={"B24_BATCH_SIZE": "1"},
)
def no_slots(stage: Stage) -> None:
    hangs(stage, Crowd(stage, names("well", 9), ()))


RESERVED: Final = {"filter": str({">PROCESS_ID": "", ">ID": 0})}
"""The list that an adoption begins with, as the emulator compares parameters."""


LISTS: Final = 4
"""A look is due every 9 s, and waits 0.75 s for an answer. The last list is not waited for."""


@without("two sightings", attempts=5, red=("repeats",), drain_seconds=40)
def adopted_at_first_sight(stage: Stage) -> None:
    """A list that was true when it was read: the batches on it are settled while its answer is under way."""
    stage.settle_some()
    stage.journal.tell("slow", 0.1)
    slow_list = stage.control.fault("event.offline.list", "hold", stage="after", seconds=0.6, where=RESERVED)
    deadline = time.monotonic() + 60
    while stage.control.fired(slow_list) < LISTS and time.monotonic() < deadline:
        stage.change(3)
        time.sleep(0.4)
    stage.control.disarm(slow_list)
    stage.journal.tell_nothing()
    stage.noted(f"{stage.control.fired(slow_list)} lists of reserved records that take 0.6 s")


OFTEN: Final = {
    "B24_TICK_SECONDS": "0.2",
    "B24_POLL_INTERVAL_MIN_SECONDS": "0.5",
    "B24_POLL_INTERVAL_MAX_SECONDS": "0.5",
}
"""A second poll begins while the answer of the first one is under way."""
ANSWER_SECONDS: Final = 5.5
"""How long that answer may be under way; a second less than the poll waits for it."""


@without(
    "poll lease",
    "without the poll lease",
    attempts=5,
    red=("repeats", "overlap"),
    drain_seconds=40,
    variables=OFTEN,
    scale=0.1,
)
def polled_twice(stage: Stage) -> None:
    """Two reserving calls at once get the same records; the first answer comes when the second is settled."""
    stage.settle_some()
    for _ in range(5):
        first = stage.control.fault("event.offline.get", "hold", stage="after", seconds=ANSWER_SECONDS, times=1)
        second = stage.control.fault("event.offline.get", "overlap", seconds=ANSWER_SECONDS, times=1)
        stage.change(10)
        wait_until(lambda first=first, second=second: all(map(stage.control.fired, (first, second))), "two calls", 20)
        stage.noted("a reserving call beside one whose answer is under way")
        comes(lambda: not stage.control.state()["records"], ANSWER_SECONDS)
        stage.control.disarm(first)
        wait_until(stage.empty, "both are settled", 30)


def _authorization_lost(stage: Stage) -> bool:
    """Return whether the deployment has given up refreshing: it stays silent until an administrator authorizes it
    again."""
    return str(stage.runtime.store.portals.get(PORTAL).state) == "auth_lost"


def _silent_or_empty(stage: Stage) -> bool:
    return _authorization_lost(stage) or stage.empty()


@without(
    "refresh single flight",
    attempts=5,
    red=("lost", "stuck"),
    drain_seconds=5,
    workers=2,
    objects=600,
    variables={"B24_BATCH_SIZE": "10"},
)
def refreshed_in_parallel(stage: Stage) -> None:
    """One of two refreshes with the same token fails after the other one's pair was stored, and has the last word.

    When that pair expires as well, nobody may refresh any more. A poll under way can put the state right, so it
    is tried up to three times.
    """
    stage.settle_some()
    stage.journal.tell("slow", 0.1)
    stage.change(100)
    stage.change(100, "crm_contact")
    for _ in range(3):
        wait_until(lambda: stage.control.state()["reserved"] or stage.empty(), "batches are open")
        first = stage.control.fault("oauth.token", "hold", seconds=0.7, times=1)
        others = stage.control.fault("oauth.token", "hold", seconds=1.5)
        stage.control.expire_tokens()
        stage.noted("access token expires under the tasks of 200 events")
        wait_until(lambda first=first: stage.control.fired(first), "a refresh is under way")
        end = time.monotonic() + 4
        while time.monotonic() < end and not _authorization_lost(stage):
            time.sleep(0.02)
        stage.control.expire_tokens()
        stage.noted("access token expires again")
        stage.control.disarm(first)
        stage.control.disarm(others)
        time.sleep(2)
        if _authorization_lost(stage):
            break
    stage.journal.tell_nothing()
    stage.change(10)
    wait_until(lambda: _silent_or_empty(stage), "all is settled, or the authorization lost", 90)


@without("durable before use", attempts=5, red=("lost", "stuck"), drain_seconds=5)
def used_before_stored(stage: Stage) -> None:
    """Killed when the new pair has been used: it is in the store, or lost for ever."""
    stage.settle_some()
    refreshes = stage.control.state()["token_refreshes"]
    before = max((one["seq"] for one in stage.control.requests()), default=0)
    stage.control.expire_tokens()
    wait_until(lambda: stage.control.state()["token_refreshes"] > refreshes, "a new pair is granted")
    wait_until(lambda: _answered_since_refused(stage, before), "the new access token is used", LATE_SAVE_SECONDS / 2)
    stage.kill()
    stage.noted("SIGKILL after the first call with the new access token")
    stage.change(10)
    stage.restart()
    wait_until(lambda: _silent_or_empty(stage), "all is settled, or the authorization lost", 90)


def _answered_since_refused(stage: Stage, before: int) -> bool:
    """Return whether a call was answered after one with the expired token had been refused."""
    calls = [one["status"] for one in stage.control.requests(before) if one["method"] != "oauth.token"]
    return 401 in calls and 200 in calls[calls.index(401) :]


class Stranger:
    """Has the address that a portal had before, and uses a token that is sent there: it deletes every free record."""

    def __init__(self, rest: str) -> None:
        self._rest = rest

    def __call__(self, environ: Any, start_response: Any) -> Any:
        token = json.loads(Request(environ).get_data())["auth"]
        order = {"process_id": "", "auth_connector": CONNECTOR, "auth": token}
        reply = requests.post(f"{self._rest}event.offline.clear", json=order, timeout=10)
        return Response(reply.content, reply.status_code, content_type="application/json")(environ, start_response)


@without("endpoint mismatch", attempts=5, red=("lost", "unfinished"), drain_seconds=40)
def address_of_a_stranger(stage: Stage) -> None:
    """The portal was renamed while its access token ran out, and its old address is another's."""
    stage.settle_some()
    portals = stage.runtime.store.portals
    stage.kill()
    address = stage.borrow(served(Stranger(stage.emulator.rest)))
    stage.control.expire_tokens()
    portals.set_endpoint(PORTAL, f"{address}/rest/")
    stage.change(10)
    stage.noted("the stored address belongs to a stranger")
    stage.restart()
    wait_until(lambda: portals.get(PORTAL).state == "moved" or not stage.control.state()["records"], "refreshed", 90)
    portals.set_endpoint(PORTAL, stage.emulator.rest)


@without("reserve before run", "without reserving before a redrive runs", red=("unfinished",), drain_seconds=40)
def redriven_while_free(stage: Stage) -> None:
    """A change while a nacked record runs: on a free record it is swallowed, beside a reserved one it is new."""
    stage.settle_some()
    unlucky = fail_some(stage)
    wait_until(lambda: stage.control.state()["free_nacked"] >= len(unlucky), "failed events are nacked", 60)
    wait_until(lambda: stage.services.ledger.open_batches() == {}, "what failed is settled", 60)
    for one in unlucky:
        stage.journal.tell("slow_after", 3, name=f"crm_company {one}", times=1)
    before = stage.journal.count("effect")
    wait_until(lambda: stage.journal.count("effect") >= before + len(unlucky), "nacked events run again", 60)
    stage.control.change("crm_company", "update", ids=unlucky)
    stage.noted("changes while nacked events run")


def _closed_long_ago(stage: Stage) -> None:
    """Every message of batches that are closed comes again, with changes behind them to see that they were read."""
    stage.journal.tell("kill", times=1)
    stage.change(10)
    stage.change(10, "crm_lead")
    wait_until(stage.empty, "all batches are closed", 90)
    copies = late_copies.deliver(stage)
    stage.noted(f"{copies} messages of closed batches are delivered again")
    stage.expect(copies >= 60, "there were messages to deliver")
    stage.settle_some()
    stage.settle_some()


LATE: Final = {"B24_PIPELINES": late_copies.MODULES}


@fault(26, "every message again after its batch has closed", plan=Plan(variables=LATE))
def late_messages(stage: Stage) -> None:
    """They find neither run nor batch, and change nothing."""
    _closed_long_ago(stage)


@without(
    "unknown run", "a step whose run is unknown runs", attempts=5, red=("repeats",), drain_seconds=40, variables=LATE
)
def unknown_run(stage: Stage) -> None:
    """The absence of a closed run is what silences late messages; nothing about the closed batch is asked."""
    _closed_long_ago(stage)


@without(
    "refusal of reads from the future",
    "serving what was read in the future",
    attempts=5,
    red=("stale",),
    drain_seconds=40,
    needs=LIBRARY,
    package=PACKAGE,
    own_broker=True,
    concurrency=2,
)
def read_in_the_future(stage: Stage) -> None:
    """An object that was read before the ledger's clock was set back is taken for its state after the change."""
    ledger_set_back(stage)
