"""Beat under a clock that is set back, or ahead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from b24offline.contract import TASK_TICK
from b24offline.settings import celeryconfig
from b24offline.tasks import app
from b24offline.tasks.beat import SteadyScheduler

HOUR = timedelta(hours=1)


class Beat:
    """The scheduler of this deployment; nothing is sent."""

    def __init__(self, schedule_file: Path) -> None:
        self.sent: list[str] = []
        self.scheduler = SteadyScheduler(app, schedule_filename=str(schedule_file))
        self.scheduler.producer = None  # Celery would connect to the broker for it
        self.scheduler.apply_entry = lambda entry, producer=None: self.sent.append(entry.task)


class Clock:
    """What the machine calls now."""

    def __init__(self) -> None:
        self.now = datetime(2026, 4, 3, 12, tzinfo=UTC)

    def run(self, beat: Beat, seconds: float) -> int:
        """Let beat work for so long. Return how often it sent something."""
        before, end = len(beat.sent), self.now + timedelta(seconds=seconds)
        while self.now < end:
            self.now += timedelta(seconds=max(beat.scheduler.tick(), 0.005))
        return len(beat.sent) - before


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_ticks_go_on_whatever_the_clock_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: timedelta, restarted: bool
) -> None:
    clock = Clock()
    app.set_current()  # entries that were read from the file ask the current application for the time
    monkeypatch.setattr(app, "now", lambda: clock.now)
    beat = Beat(tmp_path / "schedule")
    assert clock.run(beat, 30) in range(28, 35)
    clock.now += jump
    if restarted:
        beat.scheduler.close()
        beat = Beat(tmp_path / "schedule")
    assert clock.run(beat, 30) in range(28, 35)
    beat.scheduler.close()


def test_beat_uses_it() -> None:
    assert celeryconfig.beat_scheduler == f"{SteadyScheduler.__module__}:{SteadyScheduler.__name__}"


def test_an_unusable_folder_ends_beat_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"cannot start\.\nBeat cannot keep .* B24_DATA_DIR to a folder"):
        Beat(Path("/proc/none/schedule"))


def test_the_first_tick_is_sent_at_once_and_a_sweep_is_not(tmp_path: Path) -> None:
    beat = Beat(tmp_path / "schedule")
    beat.scheduler.tick()
    assert beat.sent == [TASK_TICK]
    beat.scheduler.close()
