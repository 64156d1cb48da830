"""An installation is believed as far as the authorization server confirms it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from b24offline.emulator import EmulatorProcess
from b24offline.events import DesiredState, ObservedState
from tests.support.live_portal import emulator
from tests.support.push_bench import INSTALL, NAME, SIGNAL, PushBench

__all__ = ["emulator"]


@pytest.fixture
def bench(emulator: EmulatorProcess, redis: Redis, tmp_path: Path) -> Iterator[PushBench]:
    """A deployment that serves no portal yet."""
    bench = PushBench(emulator, redis, tmp_path, configured=False)
    yield bench
    bench.runtime.close()


@pytest.fixture
def served(emulator: EmulatorProcess, redis: Redis, tmp_path: Path) -> Iterator[PushBench]:
    bench = PushBench(emulator, redis, tmp_path)
    yield bench
    bench.runtime.close()


def install(bench: PushBench, **auth: str) -> int:
    tokens = bench.control.issue_token()
    return bench.send(INSTALL, **{**tokens, **auth})


def test_a_portal_that_installs_is_served_from_then_on(bench: PushBench) -> None:
    assert install(bench) == 200
    (portal,) = bench.store.portals.list()
    assert (portal.member_id, portal.client_endpoint) == (bench.member_id, bench.portal["client_endpoint"])
    assert (portal.desired_state, portal.state) == (DesiredState.RUN, ObservedState.ACTIVE)
    assert bench.store.tokens.get(portal.name).access
    assert bench.workers.asked == [("poll", portal.name)]
    assert bench.send(SIGNAL) == 200


def test_addresses_of_the_message_are_never_called(bench: PushBench) -> None:
    evil = {"client_endpoint": "http://127.0.0.1:1/rest/", "domain": "evil.example", "server_endpoint": "http://x/"}
    assert install(bench, **evil) == 200
    (portal,) = bench.store.portals.list()
    assert portal.client_endpoint == bench.portal["client_endpoint"]


@pytest.mark.parametrize(
    "forged",
    [{"refresh_token": "made-up"}, {"member_id": "0" * 32}],
    ids=["no token of ours", "a token of another account"],
)
def test_a_forged_installation_stores_nothing(bench: PushBench, forged: dict[str, str]) -> None:
    install(bench, **forged)
    assert (list(bench.store.portals.list()), bench.workers.asked) == ([], [])


def test_a_forged_installation_replaces_nothing_of_a_served_portal(served: PushBench) -> None:
    served.know_token()
    before = served.store.tokens.get(NAME)
    assert install(served, refresh_token="made-up", application_token="evil") == 200
    assert (served.store.tokens.get(NAME), served.known()) == (before, served.application_token)


def test_an_installation_of_a_served_portal_renews_its_tokens(served: PushBench) -> None:
    before = served.store.tokens.get(NAME)
    served.control.app(removed=True)
    served.control.app(removed=False)
    served.store.portals.set_state(NAME, ObservedState.AUTH_LOST, "uninstalled")
    assert install(served) == 200
    after = served.store.tokens.get(NAME)
    assert (after.version, after.refresh != before.refresh) == (before.version + 1, True)
    assert [portal.name for portal in served.store.portals.list()] == [NAME]
    assert (served.store.portals.get(NAME).state, served.known()) == (ObservedState.ACTIVE, served.application_token)


def test_a_portal_that_an_operator_removed_stays_removed(served: PushBench) -> None:
    served.store.portals.remove(NAME)
    assert install(served) == 200
    assert served.store.portals.get(NAME).desired_state is DesiredState.REMOVED
    assert served.workers.asked == []


def test_an_installation_at_another_address_waits_for_an_operator(served: PushBench) -> None:
    served.store.portals.set_endpoint(NAME, "https://acme.example/rest/")
    assert install(served) == 200
    portal = served.store.portals.get(NAME)
    assert (portal.state, portal.client_endpoint) == (ObservedState.MOVED, "https://acme.example/rest/")
    assert served.portal["client_endpoint"] in portal.state_reason


def test_a_portal_that_lacks_something_is_stored_and_says_so(
    bench: PushBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.control.licence(rest_auth_connector=False)
    try:
        assert install(bench) == 200
    finally:
        bench.control.licence(rest_auth_connector=True)
    assert len(bench.store.portals.list()) == 1
    assert any("rest_auth_connector" in str(vars(record)) for record in caplog.records)


def test_a_second_installation_with_the_same_tokens_changes_nothing(bench: PushBench) -> None:
    tokens = bench.control.issue_token()
    bench.send(INSTALL, **tokens)
    (name,) = bench.store.portals.names()
    before = bench.store.tokens.get(name)
    assert bench.send(INSTALL, **tokens) == 200
    assert bench.store.tokens.get(name) == before


def test_installations_are_bounded(bench: PushBench) -> None:
    answers = [bench.send(INSTALL, refresh_token="made-up", member_id=f"m{number}") for number in range(50)]
    assert (answers.count(200), answers.count(429)) == (30, 20)
