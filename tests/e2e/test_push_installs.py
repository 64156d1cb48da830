"""A portal installs the application and is served, without a command; and what happens when the receiver dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from b24offline.failpoints import VARIABLE
from tests.support import push_chains
from tests.support.push_process import PushProcess
from tests.support.stack import Stack
from tests.support.waiting import wait_until

NOBODY = {"B24_PORTAL_URL": "", "B24_PORTAL_NAME": "", "B24_REFRESH_TOKEN": ""}
"""A deployment that knows an application, and no portal."""
SETTINGS = {"B24_PIPELINES": "tests.support.push_chains", "B24_POLL_INTERVAL_MAX_SECONDS": "2"}


@pytest.fixture
def push(tmp_path: Path) -> Iterator[PushProcess]:
    process = PushProcess(tmp_path)
    yield process
    process.kill()
    print(process.log[-4000:])


def install(stack: Stack, push: PushProcess) -> None:
    """Let the portal's administrator install the application, which was not there before."""
    stack.control.app(removed=True)
    stack.control.app(removed=False, handler=push.url)


def bound(stack: Stack) -> set[str]:
    return {binding["event"] for binding in stack.control.state()["bindings"]}


def handle_a_change(stack: Stack, redis: Redis) -> None:
    (deal,) = stack.control.change("crm_deal", "add")
    wait_until(lambda: redis.hexists(push_chains.BEGUN, f"crm_deal {deal}"), f"deal {deal} is handled")


def test_a_portal_that_installs_is_served_without_a_command(
    start_stack: Callable[..., Stack], redis: Redis, push: PushProcess
) -> None:
    stack = start_stack(bind=False, variables={**SETTINGS, **NOBODY, **push.variables})
    push.start(stack.variables)
    assert list(stack.runtime.store.portals.names()) == []
    install(stack, push)
    wait_until(lambda: {"ONOFFLINEEVENT", "ONCRMDEALADD"} <= bound(stack), "events and signals are bound")
    handle_a_change(stack, redis)
    stack.control.app(updated=True)
    wait_until(lambda: {"ONOFFLINEEVENT", "ONCRMDEALADD"} <= bound(stack), "an update is bound again")
    handle_a_change(stack, redis)
    stack.control.app(removed=True)
    (name,) = stack.runtime.store.portals.names()
    store = stack.runtime.store.portals
    wait_until(lambda: "was uninstalled" in store.get(name).state_reason, "the removal is noted")
    stack.control.app(removed=False)
    wait_until(lambda: {"ONOFFLINEEVENT", "ONCRMDEALADD"} <= bound(stack), "the second installation is bound")
    handle_a_change(stack, redis)
    assert list(store.names()) == [name]


def test_a_receiver_that_dies_after_storing_has_connected_the_portal(
    start_stack: Callable[..., Stack], redis: Redis, push: PushProcess, tmp_path: Path
) -> None:
    stack = start_stack(bind=False, variables={**SETTINGS, **NOBODY, **push.variables})
    (tmp_path / "push.stored").write_text("child")
    push.start(stack.variables, **{VARIABLE: str(tmp_path)})
    install(stack, push)
    wait_until(push.ended, "the receiver has died")
    wait_until(lambda: {"ONOFFLINEEVENT", "ONCRMDEALADD"} <= bound(stack), "workers bind what was stored")
    handle_a_change(stack, redis)
    tokens = stack.runtime.store.application_tokens
    member_id = str(stack.emulator.hello["portals"]["default"]["member_id"])
    assert list(tokens.of_member(member_id).values()) == [""], "it died before"
    push.start(stack.variables)
    handle_a_change(stack, redis)
    wait_until(lambda: all(tokens.of_member(member_id).values()), "a signal has proved itself")


def test_without_the_receiver_polls_bring_every_change(
    start_stack: Callable[..., Stack], redis: Redis, push: PushProcess
) -> None:
    stack = start_stack(variables={**SETTINGS, **push.variables, "B24_PUSH_IDLE_SECONDS": "8"})
    push.start(stack.variables)
    wait_until(lambda: "ONOFFLINEEVENT" in bound(stack), "signals are bound")
    handle_a_change(stack, redis)
    wait_until(lambda: stack.services.lanes.signals().heard_ms, "a signal was heard")
    push.kill()
    for _ in range(3):
        handle_a_change(stack, redis)
    assert stack.control.state()["push"]["failed"] > 0
    wait_until(stack.settled, "all is settled")
