"""Messages that wait in RabbitMQ: whole seconds, and the queue that they came from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from kombu.transport.native_delayed_delivery import calculate_routing_key

from b24offline.contract import EXCHANGE, QUEUE_EVENTS, QUEUES
from b24offline.tasks.celery_app import delayed_by_broker

NOW = datetime(2026, 4, 3, 12, tzinfo=UTC)
LANE = "b24offline.deals"
KNOWN = {*QUEUES, LANE}


@given(st.floats(min_value=0.001, max_value=60.0))
def test_a_wait_is_rounded_up_to_what_the_broker_can_delay(seconds: float) -> None:
    wait = delayed_by_broker({"countdown": seconds, "queue": LANE}, NOW, KNOWN)["countdown"]
    assert seconds <= wait < seconds + 1
    assert calculate_routing_key(wait, LANE).endswith(LANE)


def test_a_moment_becomes_a_wait() -> None:
    soon = NOW + timedelta(seconds=7.5)
    for eta in (soon, soon.isoformat()):
        assert delayed_by_broker({"eta": eta, "queue": LANE}, NOW, KNOWN) == {"countdown": 8, "queue": LANE}


def test_what_need_not_wait_is_sent_at_once() -> None:
    untouched = {"exchange": EXCHANGE, "routing_key": LANE}
    assert delayed_by_broker(untouched, NOW, KNOWN) == untouched
    past = {"eta": NOW - timedelta(seconds=1), "queue": LANE}
    assert delayed_by_broker(past, NOW, KNOWN) == {"queue": LANE}
    assert delayed_by_broker({"countdown": 0}, NOW, KNOWN) == {}


def test_a_retry_returns_to_the_queue_that_it_came_from() -> None:
    first = {"exchange": EXCHANGE, "routing_key": LANE, "countdown": 2}
    assert delayed_by_broker(first, NOW, KNOWN) == {"queue": LANE, "countdown": 2}
    delayed = {"exchange": "celery_delayed_delivery", "routing_key": calculate_routing_key(2, LANE), "countdown": 8}
    assert delayed_by_broker(delayed, NOW, KNOWN) == {"queue": LANE, "countdown": 8}


def test_a_queue_that_is_named_or_not_ours_is_left_as_it_is() -> None:
    named = {"queue": QUEUE_EVENTS, "exchange": EXCHANGE, "routing_key": LANE, "countdown": 2}
    assert delayed_by_broker(named, NOW, KNOWN) == named
    theirs = {"exchange": "shop", "routing_key": "shop", "countdown": 2}
    assert delayed_by_broker(theirs, NOW, KNOWN) == theirs
