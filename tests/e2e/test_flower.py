"""Flower beside a deployment: what its rows say; no customer's data and no token is shown anywhere."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from redis import Redis

from b24offline import supervisor
from b24offline.contract import QUEUES
from b24offline.log import showable
from b24offline.tasks.steps import Permanent
from tests.support import careless_chains
from tests.support.onlookers import BrokerLog, Events, Flower
from tests.support.rabbit import RabbitNode
from tests.support.stack import PORTAL, Stack
from tests.support.waiting import wait_until

FETCH, UPSERT = "b24offline.step.objects.fetch", "b24offline.step.mirror.upsert"
QUOTE = careless_chains.quote.name
CANARY = "CANARY-7f3a9c51"
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "flower.md"
VARIABLES = {"B24_PIPELINES": "tests.support.careless_chains", "B24_MAX_ATTEMPTS": "2"}


@pytest.fixture
def watched(start_stack: Callable[..., Stack], tmp_path: Path) -> Iterator[Callable[..., tuple[Stack, Flower]]]:
    """Starts a stack whose worker sends events, and Flower beside it."""
    with ExitStack() as running:

        def start(*arguments: str, broker: str | None = None) -> tuple[Stack, Flower]:
            stack = start_stack(broker, variables=VARIABLES, arguments=("-E",), time_scale=0.02)
            environ = supervisor.child_environ(stack.variables)
            flower = running.enter_context(Flower(environ, tmp_path, *arguments))
            wait_until(lambda: flower.get("/api/workers").json(), "Flower knows the worker")
            return stack, flower

        yield start


def title(entity: str, event: str, object_id: str) -> str:
    return f"portal={PORTAL} event={event} object={entity} {object_id}"


def five_rows_say_portal_event_and_object(stack: Stack, flower: Flower) -> None:
    ids = stack.control.change("crm_deal", "update", count=5)
    wait_until(lambda: len(flower.rows(UPSERT, state="SUCCESS")) == 5, "all steps are shown")
    titles = {title("crm_deal", "ONCRMDEALUPDATE", deal) for deal in ids}
    for name in (FETCH, QUOTE, UPSERT):
        rows = flower.rows(name)
        assert {row["args"] for row in rows} == titles
        assert {row["kwargs"] for row in rows} == {""}
        assert {row["state"] for row in rows} == {"SUCCESS"}
    first = title("crm_deal", "ONCRMDEALUPDATE", ids[0])
    assert [row["args"] for row in flower.rows(FETCH, search=f'"{first}"')] == [first]
    [worker] = flower.get("/api/workers", refresh=1).json().values()
    assert {queue["name"] for queue in worker["active_queues"]} == set(QUEUES)


def failures_name_the_error(flower: Flower) -> None:
    failures = {re.findall(r"object=(\w+)", row["args"])[0]: row for row in flower.rows(QUOTE, state="FAILURE")}
    assert "ValueError" in failures["crm_lead"]["exception"]
    assert "careless_chains.py" in failures["crm_lead"]["traceback"]
    assert "the title is no number" in failures["crm_company"]["exception"]


def test_rows_say_portal_event_and_object_on_rabbitmq(watched, rabbit: RabbitNode) -> None:
    five_rows_say_portal_event_and_object(*watched(broker=rabbit.url))


def test_no_customer_data_and_no_token_is_shown(watched, redis: Redis, valkey, tmp_path: Path) -> None:
    with ExitStack() as looking:
        log = looking.enter_context(BrokerLog(valkey.url))
        events = looking.enter_context(Events(valkey.url))
        stack, flower = watched()
        five_rows_say_portal_event_and_object(stack, flower)
        wait_until(lambda: events.seen, "events are received")
        secrets = known_secrets(stack)
        redis.hset(careless_chains.MODE, mapping={"crm_deal": "once", "crm_lead": "fail", "crm_company": "permanent"})
        stack.control.change("crm_deal", "add", fields={"TITLE": f"{CANARY} deal"}, count=5)
        stack.control.change("crm_lead", "add", fields={"TITLE": f"{CANARY} lead"}, count=2)
        stack.control.change("crm_company", "add", fields={"TITLE": f"{CANARY} company"}, count=2)
        wait_until(lambda: len(flower.rows(QUOTE, state="FAILURE")) >= 4, "failures are shown")
        failures_name_the_error(flower)
        stack.control.expire_tokens()
        stack.control.change("crm_deal", "add", fields={"TITLE": f"{CANARY} deal"}, count=3)
        wait_until(lambda: len(flower.rows(UPSERT, state="SUCCESS")) >= 5 + 8, "deals are mirrored")
        retried = [row["args"] for row in flower.rows(QUOTE, state="SUCCESS") if row["retries"] == 1]
        assert len(set(retried)) == 8
        assert all(text.startswith(title("crm_deal", "ONCRMDEALADD", "")) for text in retried)
        secrets |= known_secrets(stack)
        titles = [row.data["TITLE"] for row in stack.runtime.mirror.rows(PORTAL) if "TITLE" in row.data]
        assert titles.count(f"{CANARY} deal") == 8, "the data did pass through the workers"
        seen = {"flower": flower.everything(), "events": events.everything(), "broker": log.everything()}
    seen |= {path.name: path.read_bytes() for folder in (stack.folder, tmp_path) for path in folder.glob("*.log")}
    assert {"w0.log", "beat.log", "flower.log"} <= set(seen)
    assert len(secrets) >= 6, "two pairs of tokens, the client's secret, the key of the store"
    for where, text in seen.items():
        assert text, f"nothing was looked at in {where}"
        for secret in secrets | {CANARY}:
            assert places(text, secret) == [], f"{secret[:9]}... in {where}"
    readable = title("crm_deal", "ONCRMDEALADD", "").encode()
    assert all(readable in seen[where] for where in ("flower", "events", "broker")), "messages can be read here"
    assert b"the title is no number" in seen["w0.log"]
    redis.delete(careless_chains.MODE)


def test_an_error_shows_its_place_and_not_its_text() -> None:
    try:
        int(CANARY)
    except ValueError as error:
        first, cause = showable(error), error
    try:
        raise Permanent("the title is no number") from cause
    except Permanent as error:
        second = showable(error)
    shown = ["".join(traceback.format_exception(error)) for error in (first, second)]
    assert not [text for text in shown if CANARY in text]
    assert all("test_flower.py" in text for text in shown)
    assert "StepFailed: ValueError" in shown[0]
    assert "the title is no number" in shown[1]


def known_secrets(stack: Stack) -> set[str]:
    """Return both tokens of now, the first refresh token, the client's secret and the store's key."""
    tokens = stack.runtime.store.tokens.get(PORTAL)
    keys = {path.read_text().strip() for path in (stack.folder / "data").glob("*key*")}
    given = {stack.emulator.client_secret, str(stack.emulator.hello["refresh_token"])}
    return {secret for secret in {tokens.access, tokens.refresh, *keys, *given} if secret}


def places(text: bytes, secret: str) -> list[bytes]:
    return [
        text[max(0, found.start() - 200) : found.end() + 60] for found in re.finditer(re.escape(secret.encode()), text)
    ]


def test_read_only_shows_and_refuses_and_the_documented_config_shortens_titles(watched, tmp_path: Path) -> None:
    [config] = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    path = tmp_path / "flowerconfig.py"
    path.write_text(config)
    stack, flower = watched(f"--conf={path}")
    [deal] = stack.control.change("crm_deal", "update")
    wait_until(lambda: flower.rows(UPSERT, state="SUCCESS"), "the step is shown")
    [task_id] = flower.tasks(taskname=UPSERT)
    assert f"{PORTAL} ONCRMDEALUPDATE crm_deal {deal}" in flower.get(f"/task/{task_id}").text
    [worker] = flower.get("/api/workers").json()
    assert flower.post(f"/api/worker/shutdown/{worker}").status_code == 403
    assert flower.post("/api/task/send-task/b24offline.tick").status_code == 403
    assert requests.get(f"http://127.0.0.1:{flower.port}/api/tasks", timeout=10).status_code == 401
    metrics = requests.get(f"http://127.0.0.1:{flower.port}/metrics", timeout=10)
    assert (metrics.status_code, "flower_events" in metrics.text) == (401, False)
    assert "flower_events_total" in flower.get("/metrics").text
    assert requests.get(f"http://127.0.0.1:{flower.port}/healthcheck", timeout=10).text == "OK"
    assert stack.workers[0].alive
