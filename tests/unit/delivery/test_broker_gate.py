"""When the broker counts as full."""

from __future__ import annotations

import pytest

from b24offline.delivery.broker_gate import BrokerLoad, full_because


@pytest.mark.parametrize(
    ("load", "why"),
    [
        (BrokerLoad(waiting=100), ""),
        (BrokerLoad(waiting=101), "101 messages wait in our queues, more than 100"),
        (BrokerLoad(waiting=0, memory_share=0.85), ""),
        (BrokerLoad(waiting=0, memory_share=0.86), "it uses 86% of its memory"),
        (BrokerLoad(waiting=0, blocked=True), "it takes no messages, for lack of memory or disk"),
    ],
)
def test_a_broker_is_full_by_its_messages_its_memory_or_its_own_word(load: BrokerLoad, why: str) -> None:
    assert full_because(load, most_waiting=100) == why
