"""Calls of an emulator that runs in a process of its own."""

from __future__ import annotations

import requests

EVENT = {"event": "ONCRMDEALUPDATE", "event_type": "offline", "auth_connector": "crm"}


class Caller:
    """Calls of the default portal, or of another one."""

    def __init__(self, emulator, portal="default"):
        self.emulator = emulator
        self.control = emulator.control(portal)
        self.endpoint = emulator.hello["portals"][portal]["client_endpoint"]
        self.session = requests.Session()
        self.token = self.control.issue_token()["access_token"]

    def post(self, method, **params):
        body = {"auth": self.token, **params}
        return self.session.post(self.endpoint + method, json=body, timeout=10, allow_redirects=False)

    def result(self, method, **params):
        return self.post(method, **params).json()["result"]

    def bind(self):
        self.control.drop_subscriptions()
        self.result("event.bind", **EVENT)
        self.control.drop_records()

    def reserve(self, **more):
        return self.post("event.offline.get", clear=0, auth_connector="crm", **more)

    def grant(self, refresh_token, **more):
        """Ask the authorization server for a new pair."""
        application = {"client_id": self.emulator.client_id, "client_secret": self.emulator.client_secret}
        params = {"grant_type": "refresh_token", **application, "refresh_token": refresh_token, **more}
        return requests.get(self.emulator.auth_url, params=params, timeout=5)

    def close(self):
        self.control.disarm()
        self.control.close()
        self.session.close()
