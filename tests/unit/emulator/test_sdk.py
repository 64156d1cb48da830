"""The vendor's own Python SDK drives the emulator: what works there must work here, and be understood in the same way.

The SDK speaks https to the portal's domain and to one authorization host; both are turned to the emulator, and nothing
else of it is touched.
"""

from __future__ import annotations

import sys

import pytest
from b24pysdk import BitrixApp, BitrixToken
from b24pysdk.api.callers import call_method
from b24pysdk.api.requesters import BitrixOAuthRequester
from b24pysdk.errors import (
    BitrixAPIBadRequest,
    BitrixAPIMethodNotAllowed,
    BitrixAPIOperationTimeLimit,
    BitrixAPIQueryLimitExceeded,
)
from b24pysdk.errors.oauth import BitrixOAuthInvalidClient, BitrixOAuthInvalidGrant

from b24offline.emulator import EmulatorProcess

DOMAIN, MOVED = "acme.example", "moved.example"
DEALS = 111
CONNECTOR = "crm"


@pytest.fixture(scope="module")
def emulator():
    with EmulatorProcess(objects=6 * DEALS) as running:
        yield running


@pytest.fixture
def control(emulator):
    made = emulator.control()
    made.drop_subscriptions()
    made.drop_records()
    yield made
    made.disarm()
    made.close()


@pytest.fixture
def token(emulator, control, monkeypatch):
    places = dict.fromkeys((DOMAIN, MOVED), emulator.url)
    caller = vars(sys.modules[call_method.__module__])["_MethodCaller"]
    monkeypatch.setattr(caller, "_base_url", property(lambda each: f"{places[each._domain]}/rest"))
    monkeypatch.setattr(BitrixOAuthRequester, "_OAUTH_TOKEN_URL", emulator.auth_url)
    pair = control.issue_token()
    app = BitrixApp(client_id=emulator.client_id, client_secret=emulator.client_secret)
    return BitrixToken(
        domain=DOMAIN, auth_token=pair["access_token"], refresh_token=pair["refresh_token"], bitrix_app=app
    )


@pytest.fixture
def client(token):
    return token.get_client()


def current_refresh_token(control):
    return control.send("GET", "portals")["portals"]["default"]["refresh_token"]


def calls(control, after):
    return [entry["method"] for entry in control.requests(after)]


def last(control):
    return max((entry["seq"] for entry in control.requests()), default=0)


# Tokens


def test_an_expired_token_is_refreshed_and_the_call_repeated(client, token, control):
    before = token.oauth_token
    control.expire_tokens()
    seq = last(control)
    assert client.crm.deal.get(1).result["ID"] == "1"
    assert calls(control, seq) == ["crm.deal.get", "oauth.token", "crm.deal.get"]
    assert token.auth_token != before.access_token
    assert token.refresh_token == current_refresh_token(control) != before.refresh_token
    assert token.expires_in == 3600
    assert not token.has_expired


def test_a_dead_refresh_token_and_a_wrong_secret_are_told_apart(client, token, control, monkeypatch):
    control.expire_tokens()
    monkeypatch.setattr(token, "refresh_token", "f" * 70)
    with pytest.raises(BitrixOAuthInvalidGrant):
        _ = client.profile().result
    monkeypatch.setattr(token.bitrix_app, "client_secret", "wrong")
    with pytest.raises(BitrixOAuthInvalidClient):
        _ = client.profile().result


def test_a_code_becomes_a_pair_and_the_portal(token, control):
    renewed = token.bitrix_app.get_oauth_token(control.issue_code())
    assert renewed.oauth_token.refresh_token == current_refresh_token(control)
    assert renewed.client_endpoint.endswith("/rest/")
    assert renewed.member_id == control.send("GET", "portals")["portals"]["default"]["member_id"]


def test_a_moved_portal_is_followed(client, token, control):
    control.fault("user.admin", "redirect", location=f"https://{MOVED}/rest/user.admin.json", times=1)
    assert client.user.admin().result is True
    assert token.domain == MOVED


# Objects, lists and batches


def test_deals_are_added_read_changed_listed_and_deleted(client):
    deal = client.crm.deal.add({"TITLE": "[1] & 2 = 3 \N{HIGH VOLTAGE SIGN}", "OPPORTUNITY": 15}).result
    assert client.crm.deal.get(deal).result["TITLE"] == "[1] & 2 = 3 \N{HIGH VOLTAGE SIGN}"
    assert client.crm.deal.update(deal, {"TITLE": "other"}).result is True
    rows = client.crm.deal.list(select=["ID", "TITLE"], filter={"=TITLE": "other"}, order={"ID": "DESC"}).result
    assert rows == [{"ID": str(deal), "TITLE": "other"}]
    assert "TITLE" in client.crm.deal.fields().result
    assert client.crm.deal.delete(deal).result is True
    with pytest.raises(BitrixAPIBadRequest, match="Not found"):
        _ = client.crm.deal.get(deal).result


LISTS = {
    "deals": lambda client: client.crm.deal.list(),
    "items": lambda client: client.crm.item.list(1046),
    "tasks": lambda client: client.tasks.task.list(),
}


@pytest.mark.parametrize("name", LISTS)
def test_every_page_of_a_list_by_offset_and_by_id(client, control, name):
    entity = {"deals": "crm_deal", "items": "crm_item", "tasks": "task"}[name]
    alive = [each["id"] for each in control.objects(entity) if not each["deleted"]]
    expected = sorted({int(each.rpartition(":")[2]) for each in alive if not each.startswith("1050:")})
    assert len(expected) > 50

    def ids(rows):
        return [int(row.get("ID") or row["id"]) for row in rows]

    request = LISTS[name](client)
    assert sorted(ids(request.as_list().result)) == expected
    assert ids(request.as_list_fast().result) == expected
    assert ids(request.as_list_fast(descending=True, limit=51).result) == expected[:-52:-1]


def test_a_batch_answers_by_name_or_by_number_and_tells_errors_apart(client, token):
    named = client.call_batch({"a": client.crm.deal.get(3), "none": client.crm.deal.get(10**6)}).result
    assert named.result["a"]["ID"] == "3"
    assert named.result_error["none"]["error_description"] == "Not found"
    numbered = token.call_batch([("crm.deal.get", {"id": 3}), ("crm.deal.get", {"id": "$result[0][ID]"})])["result"]
    assert [each["ID"] for each in numbered["result"]] == ["3", "3"]
    with pytest.raises(ValueError, match="50"):
        token.call_batch([("profile", None)] * 51)


# Bindings and the offline queue


def bound(client, control, *, connector=CONNECTOR, count=3):
    """Bind changes of deals and makes some; returns what a reserving call answers."""
    assert client.event.bind("ONCRMDEALUPDATE", event_type="offline", auth_connector=connector).result is True
    control.change("crm_deal", "update", count=count)
    return client.event.offline.get(clear=False, auth_connector=connector).result


def test_events_are_bound_listed_and_unbound(client):
    assert client.event.bind("oncrmdealadd", event_type="offline").result is True
    assert client.event.bind("ONCRMDEALADD", "https://host.example/hook", event_type="online").result is True
    [offline, online] = sorted(client.event.get().values, key=lambda each: not each.offline)
    assert (offline.event, offline.offline, offline.handler) == ("ONCRMDEALADD", True, None)
    assert (online.event, online.offline, online.handler) == ("ONCRMDEALADD", False, "https://host.example/hook")
    assert client.event.unbind("ONCRMDEALADD", event_type="offline").value == 1
    assert client.event.unbind("ONCRMDEALADD", "https://host.example/hook").value == 1
    assert client.event.get().values == []
    assert {"ONCRMDEALADD", "ONTASKUPDATE"} <= set(client.events().result)


def test_a_batch_is_reserved_looked_at_and_cleared(client, control):
    reserved = bound(client, control, connector="")
    events = client.event.offline.list().values
    assert [each.bitrix_id for each in events] == [int(row["ID"]) for row in reserved["events"]]
    assert {(each.event_name, each.process_id, each.error) for each in events} == {
        ("ONCRMDEALUPDATE", reserved["process_id"], False)
    }
    assert all(each.event_data["FIELDS"]["ID"].isdigit() for each in events)
    assert all(each.timestamp_x.tzinfo for each in events)
    first = events[0].bitrix_id
    assert client.event.offline.clear(reserved["process_id"], bitrix_id=[first]).result is True
    assert [each.bitrix_id for each in client.event.offline.list().values] == [each.bitrix_id for each in events[1:]]


def test_nacked_records_are_found_with_error(client, control):
    reserved = bound(client, control, connector="")
    row = reserved["events"][0]
    assert client.event.offline.error(reserved["process_id"], message_id=[row["MESSAGE_ID"]]).result is True
    [nacked] = client.event.offline.list(filter={"=ERROR": 1}).values
    assert (nacked.bitrix_id, nacked.process_id, nacked.error) == (int(row["ID"]), "", True)
    assert client.event.offline.get(clear=False).result["events"] == []
    assert [each["ID"] for each in client.event.offline.get(clear=False, error=True).result["events"]] == [row["ID"]]


def test_clear_and_error_of_the_sdk_reach_no_connector(client, token, control):
    """They have no such parameter, are told `true`, and change nothing; a plain call with the connector does."""
    reserved = bound(client, control)
    process_id, row = reserved["process_id"], reserved["events"][0]
    assert client.event.offline.clear(process_id, bitrix_id=[int(row["ID"])]).result is True
    assert client.event.offline.error(process_id, message_id=[row["MESSAGE_ID"]]).result is True
    assert client.event.offline.list(auth_connector=CONNECTOR).result[0]["PROCESS_ID"] == process_id
    assert control.state()["reserved"] == 3
    more = {"process_id": process_id, "auth_connector": CONNECTOR}
    token.call_method("event.offline.error", {**more, "message_id": [row["MESSAGE_ID"]]})
    assert control.state()["nacked"] == 1
    token.call_method("event.offline.clear", {**more, "id": [reserved["events"][1]["ID"]]})
    assert control.state()["records"] == 2


# Refusals


REFUSALS = [
    ({"status": 503, "code": "QUERY_LIMIT_EXCEEDED"}, BitrixAPIQueryLimitExceeded),
    ({"status": 429, "code": "OPERATION_TIME_LIMIT"}, BitrixAPIOperationTimeLimit),
    ({"status": 405, "code": "ERROR_BATCH_METHOD_NOT_ALLOWED"}, BitrixAPIMethodNotAllowed),
]


@pytest.mark.parametrize(("plan", "error"), REFUSALS)
def test_limits_are_told_apart(token, control, plan, error):
    control.fault("server.time", "error", **plan)
    with pytest.raises(error):
        token.call_method("server.time", max_retries=1)
