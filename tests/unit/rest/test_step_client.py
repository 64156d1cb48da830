"""What a step writes carries the connector; what it reads does not; the queue is not its business."""

from __future__ import annotations

from typing import Any, cast

import pytest

from b24offline.errors import ConfigError
from b24offline.rest import Command, StepClient, is_writing


class Line:
    """Stands at the wire: keeps what would be sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def call(self, method: str, params: Any) -> None:
        self.sent.append((method, params))

    def batch(self, commands: Any) -> None:
        self.sent += [(command.method, command.params) for command in commands.values()]


@pytest.mark.parametrize(
    ("method", "writes"),
    [
        ("crm.deal.update", True),
        ("crm.deal.ADD", True),
        ("crm.deal.productrows.set", True),
        ("tasks.task.complete", True),
        ("im.notify", True),
        ("bizproc.workflow.start", True),
        ("crm.deal.get", False),
        ("tasks.task.getFields", False),
        ("crm.deal.list", False),
        ("crm.deal.fields", False),
        ("user.current", False),
        ("user.search", False),
        ("profile", False),
        ("server.time", False),
    ],
)
def test_every_method_that_does_not_say_that_it_reads_carries_it(method: str, writes: bool) -> None:
    line = Line()
    client = StepClient(cast("Any", line), "ours")
    client.call(method, {"id": 1})
    client.batch({"a": Command(method, {"id": 1})})
    expected = {"id": 1, "auth_connector": "ours"} if writes else {"id": 1}
    assert line.sent == [(method, expected)] * 2
    assert is_writing(method) is writes
    assert next(iter(line.sent[0][1])) == "id", "some methods go by the order of their parameters"


def test_opting_out_is_explicit_and_another_connector_is_left() -> None:
    line = Line()
    client = StepClient(cast("Any", line), "ours")
    client.call("crm.deal.update", {"id": 1}, wake_us=True)
    client.batch({"a": Command("crm.deal.update", {"id": 1})}, wake_us=True)
    client.call("crm.deal.update", {"id": 1, "auth_connector": "theirs"})
    assert [params.get("auth_connector") for _, params in line.sent] == [None, None, "theirs"]


@pytest.mark.parametrize("method", ["event.offline.clear", "Event.Offline.Get"])
def test_a_step_cannot_touch_the_queue(method: str) -> None:
    line = Line()
    client = StepClient(cast("Any", line), "ours")
    for call in (lambda: client.call(method), lambda: client.batch({"a": Command(method, {})})):
        with pytest.raises(ConfigError, match="acknowledged by b24offline alone"):
            call()
    assert line.sent == []
