"""Everything one emulator process holds: an application and the portals that have installed it."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from b24offline.emulator.server.site import Site
from b24offline.emulator.server.token_endpoint import Application
from b24offline.emulator.state import Address, Clock, Portal

DEFAULT_PORTAL: Final = "default"


@dataclass(frozen=True, slots=True)
class Options:
    """What the process was started with. `time_scale` is the rate of the portals' clocks."""

    portals: tuple[str, ...] = ()
    objects: int = 0
    seed: int = 1
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    time_scale: float = 1.0
    limits_off: bool = False


class World:
    """The application and its portals by name, the default one first, each with its site."""

    def __init__(self, url: str, options: Options) -> None:
        rng = Random(f"{options.seed}/application")
        self.url = url
        self.options = options
        self.application = Application(
            options.client_id or f"local.{rng.getrandbits(56):014x}",
            options.client_secret or f"{rng.getrandbits(200):050x}",
        )
        self.portals: dict[str, Portal] = {}
        self.sites: dict[str, Site] = {}
        for name in dict.fromkeys((DEFAULT_PORTAL, *options.portals)):
            self._open(name)

    def hello(self) -> dict[str, Any]:
        """Return what the process prints when it is ready."""
        first = self.portals[DEFAULT_PORTAL]
        return {
            "url": self.url,
            "rest": first.address.endpoint,
            "auth_url": first.address.auth_url,
            "control": f"{self.url}/control/",
            "client_id": self.application.client_id,
            "client_secret": self.application.client_secret,
            "refresh_token": first.tokens.current_refresh_token,
            "portals": {name: self.describe(portal) for name, portal in self.portals.items()},
        }

    def describe(self, portal: Portal) -> dict[str, Any]:
        """Return how an application reaches one portal."""
        return {
            "member_id": portal.member_id,
            "client_endpoint": portal.address.endpoint,
            "refresh_token": portal.tokens.current_refresh_token,
            "application_token": portal.application_token,
        }

    def _open(self, name: str) -> None:
        base = self.url if name == DEFAULT_PORTAL else f"{self.url}/portals/{name}"
        address = Address(f"{base}/rest/", self.url.partition("//")[2], f"{self.url}/oauth/token/")
        refresh_token = self.options.refresh_token if name == DEFAULT_PORTAL else None
        portal = Portal(name, self.options.seed, address, Clock(rate=self.options.time_scale), refresh_token)
        portal.bucket.off = self.options.limits_off
        portal.seed_objects(self.options.objects)
        self.portals[name] = portal
        self.sites[name] = Site(portal, self.options.seed)
