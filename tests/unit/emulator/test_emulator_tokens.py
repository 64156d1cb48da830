"""Tokens, and the authorization server's answers."""

from __future__ import annotations

import pytest

from b24offline.emulator.api.params import Params
from b24offline.emulator.api.request import RestRequest, execute
from b24offline.emulator.server.token_endpoint import Application, grant, portal_of
from b24offline.emulator.state.tokens import KEPT_ACCESS_TOKENS
from tests.unit.emulator.emulator_bench import PortalBench

APPLICATION = Application("local.app", "secret")


def ask(bench, **params):
    given = Params({"grant_type": "refresh_token", "client_id": "local.app", "client_secret": "secret", **params})
    return grant(APPLICATION, portal_of({"p": bench.portal}, given), given, bench.portal.quirks.oauth_error_status)


def call(bench, token):
    outcome = execute(bench.portal, RestRequest("user.admin", Params({}), token))
    return outcome.status, outcome.body.get("error")


@pytest.fixture
def refresh_token(bench):
    return bench.portal.tokens.current_refresh_token


def test_refresh_returns_a_pair_and_the_portal(bench, refresh_token):
    body = ask(bench, refresh_token=refresh_token).body
    assert set(body) == {
        *("access_token", "client_endpoint", "domain", "expires", "expires_in", "member_id", "refresh_token"),
        *("scope", "server_endpoint", "status", "user_id"),
    }
    assert body["expires_in"] == 3600
    assert body["client_endpoint"] == "http://127.0.0.1:1/rest/"
    assert body["refresh_token"] != refresh_token
    assert call(bench, body["access_token"]) == (200, None)


def test_a_replaced_refresh_token_dies_at_once(bench, refresh_token):
    ask(bench, refresh_token=refresh_token)
    outcome = ask(bench, refresh_token=refresh_token)
    assert (outcome.status, outcome.body["error"]) == (400, "invalid_grant")


def test_a_replaced_refresh_token_may_live_on_for_a_grace(bench, refresh_token):
    bench.portal.quirks = bench.portal.quirks.changed({"refresh_grace_seconds": 60})
    ask(bench, refresh_token=refresh_token)
    bench.wait(59)
    assert ask(bench, refresh_token=refresh_token).status == 200
    bench.wait(1)
    assert ask(bench, refresh_token=refresh_token).status == 400


def test_access_tokens_live_an_hour_whatever_is_issued_after_them(bench):
    first = bench.portal.tokens.issue_access(bench.portal.clock.now())
    for _ in range(KEPT_ACCESS_TOKENS + 5):
        bench.portal.tokens.issue_access(bench.portal.clock.now())
    assert call(bench, first) == (200, None)
    bench.wait(3600)
    assert call(bench, first) == (401, "expired_token")
    bench.portal.tokens.issue_access(bench.portal.clock.now())
    assert call(bench, first) == (401, "NO_AUTH_FOUND")


def test_refresh_tokens_live_180_days(bench, refresh_token):
    bench.wait(180 * 24 * 3600)
    assert ask(bench, refresh_token=refresh_token).body["error"] == "invalid_grant"


def test_unknown_tokens_are_refused(bench):
    assert call(bench, "nobody") == (401, "NO_AUTH_FOUND")
    assert call(bench, "") == (401, "NO_AUTH_FOUND")
    assert ask(bench, refresh_token="nobody").body["error"] == "invalid_grant"


def test_revoked_refresh_tokens_are_refused(bench, refresh_token):
    bench.portal.tokens.revoke(bench.portal.clock.now())
    assert ask(bench, refresh_token=refresh_token).body["error"] == "invalid_grant"


def test_codes_are_good_once_and_for_30_seconds(bench, refresh_token):
    code = bench.portal.tokens.new_code(bench.portal.clock.now())
    bench.wait(29)
    assert ask(bench, grant_type="authorization_code", code=code).status == 200
    assert ask(bench, grant_type="authorization_code", code=code).body["error"] == "invalid_grant"
    assert ask(bench, refresh_token=refresh_token).body["error"] == "invalid_grant"
    late = bench.portal.tokens.new_code(bench.portal.clock.now())
    bench.wait(30)
    assert ask(bench, grant_type="authorization_code", code=late).body["error"] == "invalid_grant"


def test_token_requests_without_right_are_refused(bench, refresh_token):
    assert ask(bench, refresh_token=refresh_token, client_secret="x").body["error"] == "invalid_client"
    assert ask(bench, refresh_token=refresh_token, grant_type="").body["error"] == "invalid_request"
    bench.portal.licence.commercial = False
    assert ask(bench, refresh_token=refresh_token).body["error"] == "PAYMENT_REQUIRED"
    assert ask(bench, refresh_token=bench.portal.tokens.current_refresh_token).body["error"] == "PAYMENT_REQUIRED"


def test_refused_refreshes_do_not_use_up_the_token(bench, refresh_token):
    bench.portal.licence.commercial = False
    ask(bench, refresh_token=refresh_token)
    bench.portal.licence.commercial = True
    assert ask(bench, refresh_token=refresh_token).status == 200
    assert bench.portal.tokens.refreshes == 1


def test_a_removed_application_has_nothing_left(bench, refresh_token):
    token = ask(bench, refresh_token=refresh_token).body["access_token"]
    bench.portal.remove_application()
    assert call(bench, token) == (401, "NO_AUTH_FOUND")
    assert ask(bench, refresh_token=bench.portal.tokens.current_refresh_token).body["error"] == "invalid_grant"
    assert len(bench.portal.queue) == len(bench.portal.subscriptions) == 0
    bench.portal.install_application()
    assert ask(bench, refresh_token=bench.portal.tokens.current_refresh_token).status == 200


def test_secrets_are_not_in_reprs(bench, refresh_token):
    pair = bench.portal.tokens.refresh(refresh_token, bench.portal.clock.now(), 0)
    assert pair.access_token not in repr(pair)
    assert pair.refresh_token not in repr(pair)
    assert "secret" not in repr(APPLICATION).replace("client_secret", "")
    assert "hidden" not in repr(RestRequest("x", Params({}), "hidden"))


def test_tokens_of_portals_are_told_apart():
    one, other = PortalBench.new(), PortalBench.new()
    token = other.portal.tokens.new_code(0)
    assert portal_of({"one": one.portal, "other": other.portal}, Params({"code": token})) is other.portal
