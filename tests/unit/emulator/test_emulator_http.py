"""Addresses, encodings, the envelope and tokens over HTTP."""

from __future__ import annotations

import pytest

from b24offline.emulator import EmulatorError
from tests.unit.emulator.emulator_caller import Caller


@pytest.mark.parametrize("suffix", ["", ".json"])
def test_methods_answer_with_and_without_json_suffix_and_by_webhook(caller, suffix):
    assert caller.result("user.admin" + suffix) is True
    webhook = caller.session.get(caller.endpoint + "1/secretcode/crm.deal.get" + suffix, params={"id": 1}, timeout=5)
    assert webhook.json()["result"]["ID"] == "1"
    refused = caller.session.get(caller.endpoint + "1/secretcode/event.get", timeout=5)
    assert (refused.status_code, refused.json()["error"]) == (403, "WRONG_AUTH_TYPE")


def test_parameters_are_read_from_query_form_multipart_and_json(caller):
    url, auth = caller.endpoint + "crm.deal.list", {"auth": caller.token}
    form = {"filter[@ID][0]": "1", "filter[@ID][1]": "2", "select[]": "ID", **auth}
    wanted = [{"ID": "1"}, {"ID": "2"}]
    assert caller.session.get(url, params=form, timeout=5).json()["result"] == wanted
    assert caller.session.post(url, data=form, timeout=5).json()["result"] == wanted
    parts = {name: (None, value) for name, value in form.items()}
    assert caller.session.post(url, files=parts, timeout=5).json()["result"] == wanted
    body = {"filter": {"@ID": [1, 2]}, "select": ["ID"]}
    assert caller.session.post(url, params=auth, json=body, timeout=5).json()["result"] == wanted
    bearer = {"Authorization": f"Bearer {caller.token}"}
    assert caller.session.post(url, headers=bearer, json=body, timeout=5).json()["result"] == wanted


def test_answers_carry_time_total_and_next(caller):
    body = caller.post("crm.deal.list").json()
    assert set(body) == {"result", "total", "time"}
    assert {"start", "finish", "duration", "processing", "date_start", "date_finish"} <= set(body["time"])
    refused = caller.post("crm.deal.get", id=999)
    assert refused.status_code == 400
    assert refused.json() == {"error": "", "error_description": "Not found"}


def test_portals_do_not_share_anything(emulator, caller):
    second = Caller(emulator, "second")
    assert second.endpoint.endswith("/portals/second/rest/")
    assert second.post("user.admin").status_code == 200
    second.token, caller.token = caller.token, second.token
    assert second.post("user.admin").status_code == caller.post("user.admin").status_code == 401
    second.close()


def test_a_refused_grant_has_the_status_of_its_portal_or_of_the_default(emulator, caller):
    mine, second = (emulator.control(name).issue_token()["refresh_token"] for name in ("default", "second"))
    emulator.control("second").revoke_tokens()

    caller.control.quirks(oauth_error_status=401)
    try:
        assert caller.grant("nobody").status_code == caller.grant(mine, client_secret="x").status_code == 401
        assert caller.grant(second).status_code == 400
    finally:
        caller.control.quirks(oauth_error_status=400)
        emulator.control("second").app(removed=False)


def test_unknown_addresses_are_refused(emulator, caller):
    assert caller.session.get(emulator.url + "/portals/none/rest/x", timeout=5).status_code == 404
    assert caller.session.get(emulator.url + "/nothing", timeout=5).status_code == 404
    half = caller.session.get(caller.endpoint + "1/user.admin", params={"auth": caller.token}, timeout=5)
    assert half.json()["error"] == "ERROR_METHOD_NOT_FOUND"
    with pytest.raises(EmulatorError, match="There is no GET nothing"):
        caller.control.send("GET", "nothing")
