"""Errors: their messages, and their way through a pool of processes."""

from __future__ import annotations

import inspect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b24offline import errors


def _classes() -> list[type[errors.B24OfflineError]]:
    return [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.B24OfflineError)]


@pytest.mark.parametrize("kind", [c for c in _classes() if issubclass(c, errors.PortalError)])
def test_a_portal_error_names_its_call_and_survives_pickling(kind):
    error = kind("acme", "crm.deal.get", 400, "CODE", "words")
    assert "crm.deal.get on portal acme" in str(error)
    assert "CODE" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), again.description, again.executed) == (str(error), "words", error.executed)
    assert "words" not in repr(error) or kind.quotes_description


def test_attributes_beyond_the_common_ones_survive_pickling():
    limit = errors.OperationTimeLimit("acme", "m", 429, "", "")
    limit.reset_at = 5.0
    assert pickle.loads(pickle.dumps(limit)).reset_at == 5.0
    limited = pickle.loads(pickle.dumps(errors.RateLimited("acme", 2.5)))
    assert (limited.portal, limited.wait_seconds) == ("acme", 2.5)


@pytest.mark.parametrize("kind", [errors.BadRequest, errors.RefusedByMethod, errors.ObjectNotFound])
def test_a_description_that_may_quote_a_customer_is_not_in_the_message(kind):
    error = kind("acme", "crm.lead.add", 400, "", "Phone +49 151 2345 is invalid")
    assert "2345" not in str(error) + repr(error)
    assert "2345" in error.description


@given(st.text(max_size=2000))
def test_a_message_is_one_short_line(text):
    message = str(errors.AuthLost("acme", "m", 401, text[:50], text))
    assert message.isprintable()
    assert len(message) < 900
