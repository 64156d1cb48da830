"""Which queues a deployment has: quorum ones on RabbitMQ, unless it asks for classic ones."""

from __future__ import annotations

import pytest

from b24offline.config import Config
from b24offline.errors import ConfigError

RABBIT = "amqp://user:password@rabbitmq:5672//"


@pytest.mark.parametrize(
    ("broker", "asked", "quorum"),
    [
        (RABBIT, None, True),
        (RABBIT.replace("amqp:", "amqps:"), "quorum", True),
        (RABBIT.replace("amqp:", "pyamqp:"), "quorum", True),
        (RABBIT, "classic", False),
        ("redis://127.0.0.1:6379/0", None, False),
        ("rediss://cache:6379/0", "quorum", False),
    ],
)
def test_queues_are_quorum_queues_where_the_broker_has_them(broker: str, asked: str | None, quorum: bool) -> None:
    environ = {"CELERY_BROKER_URL": broker, **({"B24_RABBITMQ_QUEUES": asked} if asked else {})}
    assert Config.load(environ).quorum_queues is quorum


def test_another_type_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"B24_RABBITMQ_QUEUES.*(?s:.)*quorum"):
        Config.load({"B24_RABBITMQ_QUEUES": "stream"})
