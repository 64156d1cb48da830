"""The error class that each reply means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b24offline import errors
from b24offline.rest.error_mapping import error_from_answer, error_from_token_answer, without_secrets

ROWS = [
    # method, status, code, description, class, executed
    ("crm.deal.get", 500, "INTERNAL_SERVER_ERROR", "Internal server error", errors.ServerError, "unknown"),
    ("crm.deal.get", 500, "ERROR_UNEXPECTED_ANSWER", "unexpected", errors.ServerError, "unknown"),
    ("crm.deal.get", 503, "QUERY_LIMIT_EXCEEDED", "Too many requests", errors.QueryLimitExceeded, "no"),
    ("crm.deal.get", 429, "OPERATION_TIME_LIMIT", "", errors.OperationTimeLimit, "no"),
    ("batch", 405, "ERROR_BATCH_METHOD_NOT_ALLOWED", "not allowed", errors.BatchRefused, "no"),
    ("batch", 400, "ERROR_BATCH_LENGTH_EXCEEDED", "Max batch length", errors.BatchRefused, "no"),
    ("crm.deal.get", 401, "NO_AUTH_FOUND", "Wrong authorization data", errors.AuthLost, "no"),
    ("crm.deal.get", 400, "INVALID_REQUEST", "Https required", errors.BadRequest, "no"),
    ("crm.deal.get", 503, "OVERLOAD_LIMIT", "REST API is blocked", errors.Overloaded, "no"),
    ("crm.deal.get", 403, "ACCESS_DENIED", "only on commercial plans", errors.AccessDenied, "no"),
    ("event.bind", 403, "ACCESS_DENIED", "Access denied!", errors.NotAdministrator, "no"),
    ("app.info", 400, "ACCESS_DENIED", "Application context required", errors.AccessDenied, "no"),
    ("crm.deal.get", 403, "INVALID_CREDENTIALS", "Invalid request credentials", errors.AuthLost, "no"),
    ("crm.deal.get", 404, "ERROR_MANIFEST_IS_NOT_AVAILABLE", "Manifest", errors.MethodNotFound, "no"),
    ("crm.deal.get", 403, "insufficient_scope", "higher privileges", errors.InsufficientScope, "no"),
    ("crm.deal.get", 401, "expired_token", "has expired", errors.ExpiredToken, "no"),
    ("crm.deal.get", 403, "user_access_error", "no access", errors.NotAdministrator, "no"),
    ("crm.deal.get", 500, "PORTAL_DELETED", "Portal was deleted", errors.PortalGone, "no"),
    ("crm.deal.get", 404, "ERROR_METHOD_NOT_FOUND", "", errors.MethodNotFound, "no"),
    ("event.get", 403, "WRONG_AUTH_TYPE", "Application context required", errors.WrongAuthType, "no"),
    ("event.bind", 403, "WRONG_LICENSE", "", errors.PlanTooSmall, "no"),
    ("user.get", 401, "METHOD_CONFIRM_WAITING", "Waiting", errors.AccessDenied, "no"),
    ("user.get", 403, "METHOD_CONFIRM_DENIED", "denied", errors.AccessDenied, "no"),
    ("crm.item.get", 403, "allowed_only_intranet_user", "", errors.AccessDenied, "no"),
    ("crm.item.get", 400, "NOT_FOUND", "Element was not found", errors.ObjectNotFound, "no"),
    ("crm.deal.get", 400, "", "Not found", errors.ObjectNotFound, "no"),
    ("crm.deal.get", 400, "", "ID is not defined or invalid.", errors.BadRequest, "no"),
    ("event.bind", 400, "ERROR_ARGUMENT", "", errors.BadRequest, "no"),
    ("task.add", 400, "100", "CTaskItem", errors.BadRequest, "no"),
    ("booking.get", 400, 1021, "", errors.BadRequest, "no"),
    ("hr.link", 200, 0, "", errors.RefusedByMethod, "no"),
    ("catalog.get", 200, 200040300010, "Access Denied", errors.RefusedByMethod, "no"),
    ("any.method", 500, "SOMETHING_NEW", "", errors.ServerError, "unknown"),
    ("any.method", 502, "", "", errors.ServerError, "unknown"),
    ("any.method", 401, "SOMETHING_NEW", "", errors.AuthLost, "no"),
    ("any.method", 403, "SOMETHING_NEW", "", errors.AccessDenied, "no"),
    ("any.method", 429, "SOMETHING_NEW", "", errors.OperationTimeLimit, "no"),
    ("any.method", 422, "SOMETHING_NEW", "", errors.RefusedByMethod, "no"),
]


@pytest.mark.parametrize(("method", "status", "code", "description", "kind", "executed"), ROWS)
def test_each_documented_error_has_its_class(method, status, code, description, kind, executed):
    error = error_from_answer("acme", method, status, {"error": code, "error_description": description})
    assert type(error) is kind
    assert error.executed == executed
    assert (error.portal, error.method, error.status) == ("acme", method, status)
    assert error.code == str(code)
    assert error.description == description


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, None),
        (200, []),
        (200, "text"),
        (200, {}),
        (200, {"time": {}}),
        (404, None),
        (500, None),
        (502, {"result": True}),
        (400, {"result": True}),
        (200, {"error": ["a"]}),
        (200, {"error": True}),
        (200, {"error": None}),
    ],
)
def test_a_malformed_reply_may_have_been_executed(status, body):
    error = error_from_answer("acme", "crm.deal.add", status, body)
    assert type(error) is errors.UnknownAnswer
    assert error.executed == "unknown"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("body", [None, {"result": True}, {"error": "expired_token"}])
def test_a_redirect_is_never_a_result(status, body):
    error = error_from_answer("acme", "crm.deal.add", status, body)
    assert type(error) is errors.Moved
    assert error.executed == "unknown"


@pytest.mark.parametrize("result", [True, [], {}, None, 0, "", "text"])
def test_a_result_is_no_error(result):
    assert error_from_answer("acme", "m", 200, {"result": result}) is None


def test_an_error_beside_a_result_is_an_error():
    body = {"result": True, "error": "expired_token"}
    assert type(error_from_answer("acme", "m", 200, body)) is errors.ExpiredToken


def test_the_error_of_rest_3_is_read():
    body = {"error": {"code": "INSUFFICIENT_SCOPE", "message": "words"}}
    error = error_from_answer("acme", "m", 403, body)
    assert type(error) is errors.InsufficientScope
    assert error.description == "words"


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ({"operating_reset_at": 1766047124}, 1766047124.0),
        ({"operating_reset_at": "1766047124"}, 1766047124.0),
        ({"operating_reset_at": None}, None),
        ({"operating_reset_at": True}, None),
        ({"operating_reset_at": "soon"}, None),
        ({}, None),
        (None, None),
        ([], None),
    ],
)
def test_the_end_of_an_operation_limit_is_optional(time, expected):
    error = error_from_answer("acme", "m", 429, {"error": "OPERATION_TIME_LIMIT", "time": time})
    assert isinstance(error, errors.OperationTimeLimit)
    assert error.reset_at == expected


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": "invalid_grant"}, errors.AuthLost),
        (200, {"error": "invalid_grant"}, errors.AuthLost),
        (401, {"error": "invalid_client"}, errors.ClientRejected),
        (400, {"error": "invalid_scope"}, errors.InsufficientScope),
        (400, {"error": "PAYMENT_REQUIRED"}, errors.PaymentRequired),
        (400, {"error": "invalid_request"}, errors.AuthServerError),
        (500, {"error": "INTERNAL"}, errors.AuthServerUnavailable),
        (429, {"error": "SLOW"}, errors.AuthServerUnavailable),
        (200, {"error": None}, errors.AuthServerUnavailable),
        (200, None, errors.AuthServerUnavailable),
        (200, [], errors.AuthServerUnavailable),
        (200, {"access_token": "a"}, errors.AuthServerUnavailable),
        (200, {"access_token": "a", "refresh_token": ""}, errors.AuthServerUnavailable),
        (200, {"access_token": 1, "refresh_token": "b"}, errors.AuthServerUnavailable),
        (302, {"access_token": "a", "refresh_token": "b"}, errors.AuthServerUnavailable),
        (500, {"access_token": "a", "refresh_token": "b"}, errors.AuthServerUnavailable),
    ],
)
def test_each_answer_of_the_token_endpoint_has_its_class(status, body, kind):
    assert type(error_from_token_answer("acme", status, body)) is kind


def test_a_pair_is_no_error():
    assert error_from_token_answer("acme", 200, {"access_token": "a", "refresh_token": "b"}) is None


@given(
    st.integers(100, 599),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["error", "result", "time"]), inner),
    ),
)
def test_every_body_is_a_result_or_an_error(status, body):
    error = error_from_answer("acme", "m", status, body)
    is_result = isinstance(body, dict) and "result" in body and "error" not in body and 200 <= status < 300
    assert (error is None) == is_result


def test_secrets_are_cut_out_of_the_texts_of_an_error():
    body = {"error": "x", "error_description": "token abc, secret def", "n": 1}
    assert without_secrets(body, "abc", "def", "") == {**body, "error_description": "token ***, secret ***"}
    of_rest_3 = {"error": {"code": "def", "message": "abc"}}
    assert without_secrets(of_rest_3, "abc", "def") == {"error": {"code": "***", "message": "***"}}


def nested(depth):
    value = "canary"
    for _ in range(depth):
        value = {"error": value}
    return value


@pytest.mark.parametrize("where", ["error", "error_description", "more", "time"])
def test_an_error_nested_900_deep_is_an_error_of_its_portal(where):
    body = without_secrets({"error": "x", where: nested(900)}, "canary")
    for error in (error_from_answer("acme", "m", 500, body), error_from_token_answer("acme", 500, body)):
        assert "acme" in str(error)
        assert "canary" not in str(error)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", 10**400, float("inf")])
def test_a_reset_that_is_no_moment_is_none(value):
    body = {"error": "OPERATION_TIME_LIMIT", "time": {"operating_reset_at": value}}
    assert error_from_answer("acme", "m", 429, body).reset_at is None
