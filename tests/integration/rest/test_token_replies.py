"""What else a reply of the authorization server may hold: another endpoint, nonsense; and who may be asked at all."""

from __future__ import annotations

import pytest

from b24offline import errors
from b24offline.events import ObservedState
from b24offline.rest import Http, TokenSource, make_session
from tests.integration.rest.test_oauth import auth, database, seeded, source_of  # noqa: F401 - fixtures
from tests.support.store_bench import pass_time


@pytest.mark.parametrize("confirmed", ["https://elsewhere.example/rest/", "https://acme.example/rest/"])
def test_another_endpoint_suspends_until_one_is_confirmed(auth, database, confirmed):  # noqa: F811
    auth.extra = {"client_endpoint": "https://elsewhere.example/rest/"}
    store = seeded(database, auth)
    for source in (source_of(store), source_of(store)):
        with pytest.raises(
            errors.EndpointMismatch, match=r"names https://elsewhere.example/rest/.* set-url acme --url"
        ):
            source.current("acme")
    assert auth.issued == 1
    assert store.tokens.get("acme").access == "canary-a1"  # stored, and used by nobody
    assert not store.portals.set_state("acme", ObservedState.ACTIVE)  # by a call that was under way
    assert store.portals.get("acme").state is ObservedState.MOVED
    store.portals.set_endpoint("acme", confirmed)
    assert store.portals.get("acme").state is ObservedState.ACTIVE
    source = source_of(store)
    stale = source.current("acme").access
    # The operator's decision holds for what the server names again, not for a third address.
    assert source.refresh("acme", stale).access == "canary-a2"
    auth.extra = {"client_endpoint": "https://third.example/rest/"}
    with pytest.raises(errors.EndpointMismatch, match="third"):
        source.refresh("acme", "canary-a2")
    assert auth.issued == 3


@pytest.mark.parametrize("named", ["HTTPS://ACME.example/rest", "https://acme.example/rest/", "", None, 7, ["x"]])
def test_the_same_endpoint_in_other_words_suspends_nothing(auth, database, named):  # noqa: F811
    auth.extra = {"client_endpoint": named}
    store = seeded(database, auth)
    assert source_of(store).current("acme").access == "canary-a1"


NONSENSE = ["1" + "0" * 400, "9" * 5000, "-1e999", "NaN", "[" * 900 + "]" * 900, '{"a":' * 300 + "1" + "}" * 300]


@pytest.mark.parametrize("value", NONSENSE, ids=lambda value: value[:8])
@pytest.mark.parametrize("field", ["expires_in", "expires", "scope"])
def test_a_pair_beside_any_nonsense_is_stored(auth, database, field, value):  # noqa: F811
    pair = '"access_token": "canary-a9", "refresh_token": "canary-r9", "member_id": "m1"'
    auth.answer = (200, f'{{"{field}": {value}, {pair}}}'.encode())
    store = seeded(database, auth)
    assert source_of(store).current("acme").access == "canary-a9"
    assert store.tokens.get("acme").refresh == "canary-r9"


def test_a_host_that_is_not_allowed_gets_no_refresh_token(auth, database):  # noqa: F811
    auth.url = "https://elsewhere.example/oauth/token/"
    store = seeded(database, auth)
    for hosts in ((), ("oauth.bitrix.info",)):
        http = Http(make_session(), 5.0, 20.0, 1 << 22, loopback_http=True, auth_hosts=hosts)
        with pytest.raises(errors.AuthHostRefused, match="not in B24_AUTH_HOSTS"):
            TokenSource(store.tokens, http).current("acme")
        pass_time(store, 16)
    assert auth.asked == []
