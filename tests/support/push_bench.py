"""The receiver of messages in this process, with a store of its own, beside an emulated portal in another one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from redis import Redis

from b24offline.config import Config
from b24offline.emulator import Control, EmulatorProcess
from b24offline.errors import BrokerUnavailable
from b24offline.push import Background, Receiver
from b24offline.runtime import Runtime
from tests.support.core_events import PREFIX

SIGNAL, INSTALL, UPDATE, UNINSTALL = "ONOFFLINEEVENT", "ONAPPINSTALL", "ONAPPUPDATE", "ONAPPUNINSTALL"
NAME = "acme"


@dataclass
class Asked:
    """What messages asked the workers for; it takes the place of the broker."""

    asked: list[tuple[str, str]] = field(default_factory=list)
    away: bool = False

    def poll(self, portal: str) -> None:
        self._note("poll", portal)

    def bind(self, portal: str) -> None:
        self._note("bind", portal)

    def _note(self, what: str, portal: str) -> None:
        if self.away:
            raise BrokerUnavailable("away")
        self.asked.append((what, portal))


class PushBench:
    """Sends messages, in the portal's name or in a stranger's. ``configured``: the portal is served already."""

    now = 1000.0

    def __init__(self, emulator: EmulatorProcess, redis: Redis, folder: Path, *, configured: bool = True) -> None:
        self.control: Control = emulator.control()
        address = redis.connection_pool.connection_kwargs
        portal = {
            "B24_PORTAL_URL": emulator.rest,
            "B24_PORTAL_NAME": NAME,
            "B24_REFRESH_TOKEN": self.control.issue_token()["refresh_token"],
        }
        self.config = Config.load(
            {
                "B24_REDIS_URL": f"redis://{address['host']}:{address['port']}/0",
                "B24_REDIS_KEY_PREFIX": PREFIX,
                "B24_DATA_DIR": str(folder),
                "B24_LOOPBACK_HTTP": "true",
                "B24_AUTH_URL": emulator.auth_url,
                "B24_CLIENT_ID": emulator.client_id,
                "B24_CLIENT_SECRET": emulator.client_secret,
                "B24_PUSH_URL": "http://127.0.0.1:9/b24",
                **(portal if configured else {}),
            }
        )
        self.runtime = Runtime(self.config)
        self.store = self.runtime.store
        self.workers = Asked()
        self.background = Background()
        self.receiver = Receiver(self.runtime, self.workers, self.background, lambda: self.now)
        self.portal: dict[str, Any] = dict(emulator.hello["portals"]["default"])
        if configured:
            self.runtime.ensure_configured_portal()
            self.runtime.services(NAME).client.call("app.info", {}, kind="poll")  # the first refresh notes the account
            self.runtime.schedule.seed([NAME])
            self.runtime.schedule.set_next(NAME, 600)

    @property
    def member_id(self) -> str:
        return str(self.portal["member_id"])

    @property
    def application_token(self) -> str:
        return str(self.portal["application_token"])

    def send(self, event: str, **auth: str) -> int:
        """Send a message of the portal with these fields of ``auth`` changed; return the status."""
        fields = {"member_id": self.member_id, "application_token": self.application_token, **auth}
        form = {"event": event, "ts": "17", **{f"auth[{name}]": text for name, text in fields.items() if text}}
        status = self.receiver.receive(urlencode(form).encode())
        self.background.finish()
        return status

    def know_token(self) -> None:
        """Let the portal's token be known, as after an installation."""
        self.store.application_tokens.save(NAME, self.application_token)

    def known(self) -> str:
        return self.store.application_tokens.of_member(self.member_id)[NAME]

    def calls(self, after: int = 0) -> list[str]:
        """Return what was called on the portal."""
        return [entry["method"] for entry in self.control.requests(after)]

    def seq(self) -> int:
        return int(self.control.state()["seq"])

    def heard(self) -> int:
        return self.runtime.services(NAME).lanes.signals().heard_ms
