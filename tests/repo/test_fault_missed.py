"""A fault row notices when what it armed met nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from b24offline.emulator import EmulatorProcess
from b24offline.supervisor import EmbeddedValkey
from tests.faults.gauges import Gauges
from tests.faults.journal import Journal
from tests.faults.stage import Plan, Stage
from tests.support.waiting import NotInTime


@pytest.fixture
def stage(tmp_path: Path, valkey: EmbeddedValkey, redis: Redis) -> Iterator[Stage]:
    """A portal, a journal and failpoints, and no worker that could meet anything."""
    stage = Stage(tmp_path, Plan(), seed=1)
    with EmulatorProcess(objects=5) as emulator:
        stage.control, stage.journal, stage.redis = emulator.control(), Journal(valkey.url), redis
        stage.workers, stage.crashes = [], tmp_path / "crashes"
        stage.crashes.mkdir()
        yield stage
        stage.control.close()


def test_nothing_armed_is_nothing_missed(stage: Stage) -> None:
    assert stage.missed() == []
    with stage.unseen():
        pass
    assert stage.missed() == [], "holding the polls back is no fault"


def test_a_plan_that_never_fired_is_told_also_when_it_is_disarmed(stage: Stage) -> None:
    stage.control.disarm(stage.control.fault("event.offline.get", "reset"))
    assert stage.missed() == ["reset of event.offline.get was armed and never met a call"]


def test_a_failpoint_that_nobody_came_to_is_told(stage: Stage) -> None:
    stage.arm("poll.leased")
    assert stage.missed() == ["nobody came to the failpoint poll.leased"]


def test_a_handler_that_never_did_what_it_was_told_is_told(stage: Stage) -> None:
    stage.journal.tell("fail", name="crm_deal 7", times=1)
    stage.journal.tell("slow", 0.5)
    assert stage.journal.mode("crm_deal 8") == ("slow", 0.5)
    assert stage.missed() == ["no handler ever did what it was told: crm_deal 7:fail"]
    assert stage.journal.mode("crm_deal 7") == ("fail", 0.0)
    assert stage.journal.mode("crm_deal 7") == ("slow", 0.5), "once only"
    stage.journal.tell_nothing()
    assert stage.missed() == []


def test_a_queue_that_does_not_become_shorter_is_given_up(stage: Stage) -> None:
    with pytest.raises(NotInTime, match=r"has not become shorter for 0\.1 s: it drains; 0 -> 0 records"):
        Gauges(stage).until(lambda: False, "it drains", standstill_seconds=0.1)
