"""An installation is stored before it is answered: a process that dies, or a server that is away, loses none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import select, update

from b24offline.emulator import EmulatorProcess
from b24offline.errors import B24OfflineError, StoreUnavailable
from b24offline.push import Background, Receiver
from b24offline.store import Installation
from b24offline.store import installations as kept
from b24offline.store.schema import INSTALLATIONS
from tests.support.live_portal import emulator
from tests.support.push_bench import INSTALL, PushBench
from tests.support.waiting import wait_until

__all__ = ["emulator"]
GIVEN = Installation("a1", "application", "refresh")


class Dead(Background):
    """Does nothing any more, as that of a process that was killed after its answer."""

    def add(self, work: Callable[[], object]) -> bool:
        return True


@pytest.fixture
def bench(emulator: EmulatorProcess, redis: Redis, tmp_path: Path) -> Iterator[PushBench]:
    """A deployment that serves no portal yet."""
    bench = PushBench(emulator, redis, tmp_path, configured=False)
    yield bench
    bench.control.disarm()
    bench.runtime.close()


def rows(bench: PushBench) -> int:
    with bench.store.engine.connect() as connection:
        return len(connection.execute(select(INSTALLATIONS)).all())


def later(bench: PushBench, seconds: float) -> None:
    """Let so much time pass for what is kept."""
    with bench.store.engine.begin() as connection:
        connection.execute(
            update(INSTALLATIONS).values(
                due_at=INSTALLATIONS.c.due_at - seconds, received_at=INSTALLATIONS.c.received_at - seconds
            )
        )


def killed(bench: PushBench) -> None:
    """Let a process take an installation, answer, and die."""
    bench.receiver = Receiver(bench.runtime, bench.workers, Dead(), lambda: bench.now)
    assert bench.send(INSTALL, **bench.control.issue_token()) == 200
    assert (list(bench.store.portals.list()), rows(bench)) == ([], 1)
    bench.receiver = Receiver(bench.runtime, bench.workers, bench.background, lambda: bench.now)


def test_an_installation_of_a_process_that_died_is_taken_up_by_the_next(bench: PushBench) -> None:
    killed(bench)
    bench.receiver.resume()
    assert rows(bench) == 1, "the process that it belongs to may live"
    later(bench, kept.FIRST_WAIT_SECONDS)
    bench.receiver.resume()
    (name,) = bench.store.portals.names()
    assert (bench.workers.asked, rows(bench)) == ([("poll", name)], 0)
    assert set(bench.store.application_tokens.of_member(bench.member_id).values()) == {bench.application_token}


def test_one_that_is_done_or_refused_is_deleted(bench: PushBench) -> None:
    bench.send(INSTALL, refresh_token="made-up")
    bench.send(INSTALL, **bench.control.issue_token())
    assert (len(bench.store.portals.list()), rows(bench)) == (1, 0)


def test_an_authorization_server_that_is_away_is_asked_again_later_and_later(bench: PushBench) -> None:
    bench.control.fault("oauth.token", "status", status=500)
    assert bench.send(INSTALL, **bench.control.issue_token()) == 200
    assert (list(bench.store.portals.list()), rows(bench)) == ([], 1)
    later(bench, kept.FIRST_WAIT_SECONDS)
    with pytest.raises(B24OfflineError):
        bench.receiver.resume()
    bench.control.disarm()
    later(bench, kept.FIRST_WAIT_SECONDS)
    bench.receiver.resume()
    assert list(bench.store.portals.list()) == [], "the second wait is longer"
    later(bench, 1.1 * kept.FIRST_WAIT_SECONDS)
    bench.receiver.resume()
    assert (len(bench.store.portals.list()), rows(bench)) == (1, 0)


def test_a_store_that_is_away_is_answered_503(bench: PushBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_self: object, _installation: object) -> bool:
        raise StoreUnavailable("away")

    monkeypatch.setattr(kept.Installations, "keep", away)
    assert bench.send(INSTALL, **bench.control.issue_token()) == 503


def test_of_two_processes_one_takes_it(bench: PushBench) -> None:
    bench.store.installations.keep(GIVEN)
    later(bench, kept.FIRST_WAIT_SECONDS)
    assert [bench.store.installations.take() for _ in range(2)] == [GIVEN, None]


def test_a_copy_is_kept_once_and_no_token_can_be_read(bench: PushBench) -> None:
    assert [bench.store.installations.keep(GIVEN) for _ in range(2)] == [True, True]
    with bench.store.engine.connect() as connection:
        (row,) = connection.execute(select(INSTALLATIONS)).all()
    assert GIVEN.refresh_token not in str(row)
    assert GIVEN.application_token not in str(row)


def test_strangers_fill_it_to_a_bound_and_for_a_day(bench: PushBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_WAITING", 2)
    for number in range(2):
        assert bench.store.installations.keep(Installation(f"a{number}", "t", "r"))
    bench.receiver = Receiver(bench.runtime, bench.workers, Dead(), lambda: bench.now)
    assert bench.send(INSTALL, **bench.control.issue_token()) == 429
    later(bench, kept.KEPT_SECONDS + 1)
    assert bench.send(INSTALL, **bench.control.issue_token()) == 200
    assert rows(bench) == 1


def test_another_key_opens_none_and_stops_nothing(bench: PushBench) -> None:
    bench.store.installations.keep(GIVEN)
    later(bench, kept.FIRST_WAIT_SECONDS)
    with bench.store.engine.begin() as connection:
        connection.execute(update(INSTALLATIONS).values(message="1.AAAA"))
    assert bench.store.installations.take() is None
    assert rows(bench) == 0


def test_a_process_looks_for_them_now_and_again() -> None:
    asked: list[int] = []

    def look() -> None:
        asked.append(1)
        raise RuntimeError("what one look meets does not end the others")

    background = Background()
    background.repeat(look, 0.01)
    wait_until(lambda: len(asked) > 3, "it is repeated")
    background.finish()
    (repeating,) = (one for one in threading.enumerate() if one.name == "repeating")
    repeating.join(5)
    assert not repeating.is_alive()
