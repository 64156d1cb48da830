"""How the broker's server is verified. Kombu's own way is to verify nobody (Redis), or no name (RabbitMQ)."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from b24offline.config import Config


def broker_tls(config: Config) -> dict[str, Any] | bool:
    """Return Celery's ``broker_use_ssl`` for the broker's address; False where that asks for no TLS."""
    scheme, authorities = urlsplit(config.broker_url).scheme, config.service_authorities
    if scheme == "rediss":
        options = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True, "ssl_ca_certs": authorities}
    elif scheme == "amqps":
        # An empty name is filled in with that of the address, and only with one is the name of the server checked.
        options = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None, "ca_certs": authorities}
    else:
        return False
    return {name: value for name, value in options.items() if value is not None or name == "server_hostname"}
