"""Calls of an emulator that runs in a process of its own."""

from __future__ import annotations

import requests

EVENT = {"event": "ONCRMDEALUPDATE", "event_type": "offline", "auth_connector": "crm"}


class Caller:
    """Calls of the default portal, or of another one."""

    def __init__(self, emulator, portal="default"):
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

    def close(self):
        self.control.disarm()
        self.control.close()
        self.session.close()
