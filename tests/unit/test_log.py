"""Logging: one line a record, fields kept, secrets gone."""

from __future__ import annotations

import io
import json
import logging
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b24offline.log import configure, redact

CANARY = "canary7f3b19"


def logged(message: str, *args: object, level: str = "INFO", **extra: object) -> str:
    stream = io.StringIO()
    configure(level, stream)
    logging.getLogger("b24offline.poll").info(message, *args, extra=extra)
    return stream.getvalue()


def test_a_console_line() -> None:
    line = logged("batch reserved", portal="acme", records=50, note="two words\nand a line")
    assert line.endswith(
        ' INFO    b24offline.poll | batch reserved | portal=acme records=50 note="two words\\nand a line"\n'
    )
    assert line.count("\n") == 1


def test_a_line_of_json_has_the_fields_and_the_traceback() -> None:
    stream = io.StringIO()
    configure("INFO", stream, log_format="json")
    try:
        raise RuntimeError(f"refresh_token={CANARY}")
    except RuntimeError:
        logging.getLogger("b24offline").exception("refresh failed", extra={"portal": "acme", "tries": 2})
    line = json.loads(stream.getvalue())
    assert {name: line[name] for name in ("level", "logger", "message", "portal", "tries")} == {
        "level": "ERROR",
        "logger": "b24offline",
        "message": "refresh failed",
        "portal": "acme",
        "tries": 2,
    }
    assert "RuntimeError" in line["traceback"]
    assert CANARY not in stream.getvalue()


@pytest.mark.parametrize(
    ("logger", "task", "reply", "shown_at_info"),
    [
        ("celery.app.trace", "b24offline.tick", "'nothing due'", False),
        ("celery.app.trace", "b24offline.tick", "'due: acme'", True),
        ("celery.worker.strategy", "b24offline.tick", None, False),
        ("celery.worker.strategy", "b24offline.poll", None, True),
        ("celery.app.trace", "b24offline.step.crm.upsert", "'nothing due'", True),
    ],
)
@pytest.mark.parametrize("level", ["DEBUG", "INFO"])
def test_ticks_with_nothing_due_are_debug(
    logger: str, task: str, reply: str | None, shown_at_info: bool, level: str
) -> None:
    stream = io.StringIO()
    configure(level, stream)
    logging.getLogger(logger).info(
        "Task %(name)s", {"name": task}, extra={"data": {"name": task, "return_value": reply}}
    )
    logging.getLogger("celery.beat").info("Scheduler: Sending due task %s (%s)", "tick", "b24offline.tick")
    shown = [line.split()[2] for line in stream.getvalue().splitlines()]
    if level == "INFO":
        assert shown == ["INFO"] * shown_at_info
    else:
        assert shown == ["INFO" if shown_at_info else "DEBUG", "DEBUG"]


def test_a_traceback_stays_on_the_line_and_loses_its_secrets() -> None:
    stream = io.StringIO()
    configure("INFO", stream)
    try:
        raise RuntimeError(f"GET https://x/oauth/token/?refresh_token={CANARY}&client_id=a failed")
    except RuntimeError:
        logging.getLogger("b24offline").exception("refresh failed")
    text = stream.getvalue()
    assert "RuntimeError" in text
    assert CANARY not in text
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    "text",
    [
        f"auth={CANARY}",
        f"POST /rest/crm.deal.get?id=1&auth={CANARY}&x=1",
        f"auth[access_token]={CANARY}&auth%5Brefresh_token%5D={CANARY}",
        f"auth[application_token]={CANARY}",
        f"{{'access_token': '{CANARY}', 'refresh_token': '{CANARY}'}}",
        f'{{"access_token":"{CANARY}","client_secret": "{CANARY}"}}',
        json.dumps(json.dumps({"client_secret": CANARY})),
        f"client_secret: {CANARY}",
        f"B24_CLIENT_SECRET={CANARY} B24_SECRET_KEY={CANARY}",
        f"Authorization: Bearer {CANARY}",
        f"bearer {CANARY}.x.y",
        f"redis://:{CANARY}@cache:6379/0",
        f"amqp://user:{CANARY}@rabbit//",
        f"redis://:{CANARY}@{CANARY}@cache:6379/0",
        f"x1redis://:{CANARY}@cache, +amqp://:{CANARY}@rabbit",
        f"https://acme.bitrix24.com/rest/1/{CANARY}/crm.deal.get",
    ],
)
def test_secrets_are_recognised(text: str) -> None:
    assert CANARY not in redact(text)
    for line in (logged(text), logged("got %s", text), logged("x", answer=text), logged("x", answer={"nested": text})):
        assert CANARY not in line


@pytest.mark.parametrize("name", ["access_token", "refresh_token", "client_secret", "auth", "password"])
def test_fields_named_like_secrets_are_hidden(name: str) -> None:
    assert CANARY not in logged("x", **{name: CANARY})


@pytest.mark.parametrize(
    "text",
    [
        "portal acme authorised",
        "author=Marta",
        "auth lost on acme",
        "secretary: Jonas",
        "token refreshed",
        "1@1775",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    assert redact(text) == text


@given(st.text())
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize("words", ["a", "deadbeef", "auth", "auth:", "://", "bearer ", "/rest/1"])
def test_a_long_text_is_redacted_in_time(words: str) -> None:
    began = time.process_time()
    redact(words * (100_000 // len(words)))
    assert time.process_time() - began < 5, "the time must not grow with the square of the length"


def test_arguments_that_do_not_fit_do_not_reach_the_caller() -> None:
    assert "do not fit" in logged("%d records", "many")


def test_levels() -> None:
    assert logged("x", level="WARNING") == ""
    configure("DEBUG")
    assert logging.getLogger("urllib3").getEffectiveLevel() == logging.INFO
    configure("ERROR")
    assert logging.getLogger("urllib3").getEffectiveLevel() == logging.ERROR
    assert len(logging.getLogger().handlers) == 1
