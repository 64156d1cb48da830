"""What arrives from the broker cannot bring code along."""

from __future__ import annotations

import pickle

import pytest
from kombu.exceptions import ContentDisallowed
from kombu.serialization import loads, prepare_accept_content

from b24offline.celery import app


def test_a_pickled_message_is_refused() -> None:
    accept = prepare_accept_content(app.conf.accept_content)
    with pytest.raises(ContentDisallowed):
        loads(pickle.dumps({}), "application/x-python-serialize", "binary", accept=accept)
    assert loads(b"{}", "application/json", "utf-8", accept=accept) == {}
