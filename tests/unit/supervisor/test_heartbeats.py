"""What is heard of processes, and whose silence counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b24offline.cli.up import hung_seconds
from b24offline.config import Config
from b24offline.supervisor.heartbeats import HEARD_SECONDS, Heartbeat, listen

HUNG_SECONDS = 30.0


class Hearts:
    """Some processes, and a clock that advances with each look."""

    def __init__(self, folder: Path, count: int) -> None:
        self.files = [folder / str(number) for number in range(count)]
        for file in self.files:
            file.touch()
        self.heard = [Heartbeat(file) for file in self.files]
        self._now = 1

    def look(self, beating: set[int], seconds: float = 1.0) -> list[int]:
        """Look after these processes have touched their files. Return those that hang."""
        self._now += 1
        for number in beating:
            os.utime(self.files[number], ns=(self._now, self._now))
        listen(self.heard, seconds)
        return [number for number, heartbeat in enumerate(self.heard) if heartbeat.missed_seconds >= HUNG_SECONDS]


def test_the_one_that_is_silent_beside_another_hangs_and_no_other(tmp_path: Path) -> None:
    hearts = Hearts(tmp_path, 3)
    assert all(hearts.look({0, 1}) == [] for _ in range(29))
    assert hearts.look({0, 1}) == [2]


def test_one_beat_is_enough_to_be_well(tmp_path: Path) -> None:
    hearts = Hearts(tmp_path, 2)
    for _ in range(4):
        assert all(hearts.look({0}) == [] for _ in range(29))
        assert hearts.look({0, 1}) == []


def test_after_a_broker_outage_silence_is_counted_anew(tmp_path: Path) -> None:
    hearts = Hearts(tmp_path, 2)
    hearts.look({0, 1})
    assert all(hearts.look(set()) == [] for _ in range(1000))
    silent = [hearts.look({0}) for _ in range(19)]
    assert not any(silent), (
        "19 s of the 30; the first 9 s of the outage, in which the other one was still heard, counted too"
    )


def test_a_new_process_begins_anew(tmp_path: Path) -> None:
    hearts = Hearts(tmp_path, 2)
    assert all(hearts.look({0}) == [] for _ in range(29))
    hearts.heard[1].begin()
    assert all(hearts.look({0}) == [] for _ in range(29))


def test_a_file_that_is_gone_is_a_silent_one(tmp_path: Path) -> None:
    hearts = Hearts(tmp_path, 2)
    hearts.look({0, 1})
    hearts.files[1].unlink()
    assert [hearts.look({0}) for _ in range(31)][-1] == [1]


@given(beats=st.lists(st.sets(st.integers(0, 2)), max_size=120))
def test_nobody_hangs_who_was_heard_within_the_time(
    tmp_path_factory: pytest.TempPathFactory, beats: list[set[int]]
) -> None:
    hearts = Hearts(tmp_path_factory.mktemp("beats"), 3)
    last = dict.fromkeys(range(3), 0)
    for second, beating in enumerate(beats, 1):
        hung = hearts.look(beating)
        last |= dict.fromkeys(beating, second)
        assert all(second - last[number] >= HUNG_SECONDS for number in hung)
        assert len(hung) < 3, "somebody was heard"


def test_a_rare_tick_and_a_short_scale_leave_time() -> None:
    assert hung_seconds(Config()) == 120
    assert hung_seconds(Config(tick_seconds=60)) == 600
    assert hung_seconds(Config(time_scale=0.01)) == 30 > HEARD_SECONDS
