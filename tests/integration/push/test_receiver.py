"""Messages in the name of a portal that is served: proved, acted upon, or refused without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from b24offline.emulator import EmulatorProcess
from b24offline.events import ObservedState
from b24offline.push.limits import UNPROVED_PER_MINUTE
from tests.support.live_portal import emulator
from tests.support.push_bench import INSTALL, NAME, SIGNAL, UNINSTALL, UPDATE, PushBench
from tests.support.waiting import wait_until

__all__ = ["emulator"]


@pytest.fixture
def bench(emulator: EmulatorProcess, redis: Redis, tmp_path: Path) -> Iterator[PushBench]:
    bench = PushBench(emulator, redis, tmp_path)
    yield bench
    bench.control.app(removed=False)
    bench.runtime.close()


def due_seconds(bench: PushBench, redis: Redis) -> float:
    (score,) = [score for _, score in redis.zrange("coretest:polls", 0, -1, withscores=True)]
    return score / 1000 - bench.runtime.services(NAME).ledger.now_ms() / 1000


def test_a_signal_asks_for_a_poll_and_hastens_the_tick(bench: PushBench, redis: Redis) -> None:
    bench.know_token()
    assert due_seconds(bench, redis) > 500
    assert bench.send(SIGNAL) == 200
    assert bench.workers.asked == [("poll", NAME)]
    assert due_seconds(bench, redis) < 5
    assert bench.heard()


def test_a_broker_that_is_away_leaves_the_tick(bench: PushBench, redis: Redis) -> None:
    bench.know_token()
    bench.workers.away = True
    assert bench.send(SIGNAL) == 200
    assert due_seconds(bench, redis) < 5


def test_signals_without_the_right_token_do_nothing(bench: PushBench, redis: Redis) -> None:
    bench.know_token()
    since = bench.seq()
    wrong = [{"application_token": ""}, {"application_token": "wrong"}, {"member_id": "b2"}]
    assert [bench.send(SIGNAL, **auth) for auth in wrong] == [403] * 3
    assert (bench.workers.asked, bench.heard(), bench.calls(since)) == ([], 0, [])
    assert due_seconds(bench, redis) > 500


def test_the_first_signal_proves_itself_by_its_access_token(bench: PushBench) -> None:
    assert bench.known() == ""
    assert bench.send(SIGNAL, access_token=bench.control.issue_token()["access_token"]) == 403
    assert bench.known() == bench.application_token
    assert bench.workers.asked == [("poll", NAME)]
    assert bench.send(SIGNAL) == 200


def test_an_access_token_that_does_not_work_proves_nothing(bench: PushBench) -> None:
    assert bench.send(SIGNAL, access_token="made-up", application_token="evil") == 403
    assert (bench.known(), bench.workers.asked) == ("", [])


@pytest.mark.parametrize("theirs", [{"ID": 78, "CODE": "local.emulated"}, {"ID": 77, "CODE": "other"}, {}, []])
def test_a_token_of_another_application_on_the_portal_proves_nothing(bench: PushBench, theirs: object) -> None:
    fault = bench.control.fault("app.info", "status", status=200, body={"result": theirs}, every=2, times=1)
    assert bench.send(SIGNAL, access_token=bench.control.issue_token()["access_token"], application_token="evil") == 403
    assert bench.control.fired(fault) == 1
    bench.control.disarm()
    assert (bench.known(), bench.workers.asked) == ("", [])


def test_a_portal_is_asked_about_strangers_once_a_minute(bench: PushBench) -> None:
    since = bench.seq()
    for number in range(5):
        bench.send(SIGNAL, access_token="made-up", application_token=f"evil{number}")
    assert len(bench.calls(since)) == 2, "our own question, and one with the stranger's token"


def test_an_update_binds_again(bench: PushBench) -> None:
    bench.know_token()
    assert bench.send(UPDATE) == 200
    assert bench.workers.asked == [("bind", NAME)]


def test_a_token_that_an_update_has_changed_is_proved_anew(bench: PushBench) -> None:
    bench.store.application_tokens.save(NAME, "before")
    assert bench.send(UPDATE, access_token=bench.control.issue_token()["access_token"]) == 403
    assert (bench.known(), bench.workers.asked) == (bench.application_token, [("bind", NAME)])


def test_a_removal_suspends_once_our_tokens_are_dead(bench: PushBench) -> None:
    bench.know_token()
    bench.control.app(removed=True)
    assert bench.send(UNINSTALL) == 200
    portal = bench.store.portals.get(NAME)
    assert (portal.state, "was uninstalled in portal acme" in portal.state_reason) == (ObservedState.AUTH_LOST, True)
    assert bench.store.tokens.get(NAME).refresh, "nothing is deleted by a message"


def test_a_forged_removal_suspends_nothing(bench: PushBench) -> None:
    bench.know_token()
    assert bench.send(UNINSTALL, application_token="wrong", access_token="x") == 403
    assert bench.send(UNINSTALL) == 200, "the token is right, as somebody may have read it"
    assert bench.store.portals.get(NAME).state is ObservedState.ACTIVE


def test_a_portal_whose_polls_are_suspended_is_not_polled_more_often(bench: PushBench, redis: Redis) -> None:
    bench.know_token()
    bench.store.portals.set_state(NAME, ObservedState.PAUSED, "away")
    wait_until(lambda: bench.runtime.services(NAME).portal.state is ObservedState.PAUSED, "the state is read again")
    assert bench.send(SIGNAL) == 200
    assert (bench.workers.asked, due_seconds(bench, redis) > 500) == ([], True)


def test_a_flood_of_strangers_keeps_the_portal_in(bench: PushBench) -> None:
    bench.know_token()
    assert bench.send(SIGNAL) == 200
    answers = [bench.send(SIGNAL, application_token="wrong") for _ in range(100)]
    assert answers.count(403) == UNPROVED_PER_MINUTE - 1, "the portal's own first message was not proved yet"
    assert set(answers[-10:]) == {429}
    assert bench.send(SIGNAL) == 200


def test_a_repeated_signal_is_a_poll_and_no_more(bench: PushBench) -> None:
    bench.know_token()
    bench.now += 60
    assert [bench.send(SIGNAL) for _ in range(20)].count(200) < 15
    assert {what for what, _ in bench.workers.asked} == {"poll"}


def test_an_unserved_event_of_a_proved_portal_is_taken_and_ignored(bench: PushBench) -> None:
    bench.know_token()
    assert (bench.send("ONCRMDEALADD"), bench.workers.asked) == (200, [])


def test_malformed_messages_are_refused(bench: PushBench) -> None:
    for body in (b"", b"\xff", b"event=E", b"a[=1", b"event=ONOFFLINEEVENT&auth[member_id][x]=1"):
        assert bench.receiver.receive(body) == 400


def test_no_log_line_has_a_token(bench: PushBench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "b24offline")
    tokens = bench.control.issue_token()
    bench.send(SIGNAL, access_token=tokens["access_token"])
    bench.send(INSTALL, refresh_token=tokens["refresh_token"])
    bench.send(SIGNAL, application_token="canary-of-a-stranger")
    said = "\n".join(str(vars(record)) for record in caplog.records)
    assert len(caplog.records) > 2
    for secret in (*tokens.values(), bench.application_token, "canary-of-a-stranger"):
        assert secret not in said
