"""Addresses of portals that no operator has named, but an authorization server. Pure."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from b24offline.config import validators as values

if TYPE_CHECKING:
    from b24offline.config.settings import Config


def named_endpoint(config: Config, text: str) -> str:
    """Return the REST address of a portal that may be called. Raise ValueError with the end of a sentence about it.

    A portal on a server of its own tells the authorization server its host itself. One that could mean a machine of
    our network is refused: an IP address, or a name without a dot. Where plain http to this machine is allowed, as for
    the emulator, loopback hosts are.
    """
    address = values.portal_url(text)
    if why := config.refused_address(portal_url=address):
        raise ValueError(why)
    host = urlsplit(address).hostname or ""
    if address.startswith("https:") and (_is_ip(host) or "." not in host.strip(".")):
        raise ValueError("names no host of the internet")
    return address


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
