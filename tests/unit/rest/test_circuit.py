"""Which calls are judged together, and what silence means."""

from __future__ import annotations

import pytest

from b24offline.errors import AuthLost, ServerError, UnknownAnswer, Unreachable
from b24offline.rest.circuit import OPENS_AT, circuit_of, may_be_given_up, only_reads, silence_of


@pytest.mark.parametrize(
    ("methods", "circuit"),
    [
        (["event.offline.get"], "event.offline.get"),
        (["event.offline.clear"], "event.offline.clear"),
        (["crm.deal.get"], "others"),
        (["batch", "crm.deal.get"], "others"),
        (["batch", "event.offline.list"], "others"),
    ],
)
def test_the_calls_of_the_queue_have_a_circuit_each(methods, circuit):
    assert circuit_of(methods) == circuit


@pytest.mark.parametrize(
    ("kind", "status", "seconds", "counts"),
    [
        (UnknownAnswer, None, 2, 1),
        (UnknownAnswer, None, 1.9, 0),
        (Unreachable, None, 0.1, 1),
        (UnknownAnswer, None, 60, OPENS_AT),
        (Unreachable, None, 5, 1),
        (UnknownAnswer, 200, 60, 0),  # an answer, though not a usable one
        (ServerError, 502, 60, 0),
        (AuthLost, None, 60, 0),
    ],
)
def test_only_calls_without_any_answer_are_silent(kind, status, seconds, counts):
    assert silence_of(kind("acme", "m", status, "", ""), seconds, 60, 2) == counts


@pytest.mark.parametrize(
    ("methods", "reads"),
    [
        (["crm.deal.get"], True),
        (["event.offline.list"], True),
        (["batch", "crm.deal.get", "tasks.task.list"], True),
        (["event.offline.get"], False),  # reserves
        (["event.offline.clear"], False),
        (["batch", "crm.deal.get", "crm.deal.update"], False),
        (["batch", "event.bind"], False),
        (["target"], False),
    ],
)
def test_what_changes_something_is_never_given_up_early(methods, reads):
    assert only_reads(methods) is reads
    assert may_be_given_up(methods) is (reads or methods == ["event.offline.clear"])  # that is repeated by id


def test_a_call_that_acknowledges_and_more_is_waited_for():
    assert not may_be_given_up(["event.offline.clear", "event.offline.error"])
    assert not may_be_given_up(["crm.deal.clear"])
