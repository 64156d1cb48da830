"""Parsing and checks of single settings, one function a kind of value.

Every check raises ValueError whose text completes the sentence "B24_X ..." and never repeats the value, which
may be a secret. All are pure except `existing_file`.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import SecretStr
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from b24offline.config.record_filter import checked_filter, checked_order

if TYPE_CHECKING:
    from pathlib import Path

_EVENT_NAME: Final = re.compile(r"[A-Z][A-Z0-9_.]{1,127}")
_MODULE_NAME: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_HOST: Final = re.compile(r"[a-z0-9.-]{1,253}")
_UNVERIFIED: Final = {f"ssl_cert_reqs={how}" for how in ("none", "optional", "cert_none", "cert_optional")} | {
    "ssl_check_hostname=false"
}
"""What in an address switches the verification of a certificate off."""
_SENTINEL: Final = r"sentinel://([^\s;/@]*@)?[^\s;/@:]+(:[0-9]{1,5})?(/[0-9]*)?"
_WEBHOOK_PATH: Final = re.compile(r"/rest/[0-9]+/[^/]+(/.*)?")


def upper(value: object) -> object:
    """Return text in upper case, anything else as it is."""
    return value.strip().upper() if isinstance(value, str) else value


def comma_separated(value: object) -> object:
    """Return text split at commas, blanks removed; anything else as it is."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def event_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return event names in upper case, each once."""
    found = tuple(dict.fromkeys(name.upper() for name in names))
    if not all(_EVENT_NAME.fullmatch(name) for name in found):
        raise ValueError("holds something that is not an event name")
    return found


def module_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return importable module names, at least one."""
    if not names or not all(_MODULE_NAME.fullmatch(name) for name in names):
        raise ValueError("must be one or more Python module names")
    return names


def host_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names of hosts in lower case."""
    found = tuple(name.lower() for name in names)
    if not all(_HOST.fullmatch(name) for name in found):
        raise ValueError("must be names of hosts, without scheme, port or path")
    return found


def one_word(secret: SecretStr) -> SecretStr:
    """Return a secret without white space inside, which is the usual sign of a broken copy."""
    text = secret.get_secret_value().strip()
    if not text or len(text.split()) != 1 or not text.isprintable():
        raise ValueError("must be one word without spaces or line breaks")
    return SecretStr(text)


def fernet_keys(secret: SecretStr) -> SecretStr:
    """Return Fernet keys separated by commas, without blanks."""
    keys = [key.strip() for key in secret.get_secret_value().split(",") if key.strip()]
    for number, key in enumerate(keys, start=1):
        try:
            size = len(base64.b64decode(key.encode(), altchars=b"-_", validate=True))
        except (binascii.Error, UnicodeEncodeError):
            size = 0
        if size != 32:
            raise ValueError(f"has a malformed key at position {number}: each must be 32 bytes in URL-safe base64")
    if not keys:
        raise ValueError("holds no key")
    return SecretStr(",".join(keys))


def redis_url(url: str) -> str:
    """Return an address of Redis or Valkey, or addresses of Sentinels that are separated by semicolons."""
    if not re.fullmatch(rf"(rediss?|unix)://\S+|{_SENTINEL}(;{_SENTINEL})*", url):
        raise ValueError("must begin with redis://, rediss://, unix:// or sentinel://")
    return service_url(url)


def service_url(url: str) -> str:
    """Return an address with a scheme, as Celery takes it."""
    if not re.fullmatch(r"[a-z][a-z0-9+]*://\S*", url):
        raise ValueError("must be an address with a scheme")
    if _UNVERIFIED & {f"{name}={value}".lower() for name, value in parse_qsl(urlsplit(url).query)}:
        raise ValueError(
            "must not switch server verification off: leave out ssl_cert_reqs and ssl_check_hostname, and name "
            "the server's CA file in B24_SERVICE_CA_FILE"
        )
    return url


def database_url(url: str) -> str:
    """Return a SQLAlchemy address of SQLite (a file) or PostgreSQL (through psycopg)."""
    try:
        parsed = make_url(url)
        backend = "postgresql" if parsed.drivername == "postgres" else parsed.get_backend_name()
    except (ArgumentError, ValueError):
        raise ValueError("is not a database address") from None
    if backend == "sqlite":
        if parsed.database in {None, "", ":memory:"}:
            raise ValueError("must name a file: tokens in memory would be lost with the process")
        return url
    if backend != "postgresql":
        raise ValueError("must be SQLite or PostgreSQL")
    if parsed.query.get("sslmode", "verify-full") not in {"verify-full", "disable"}:
        raise ValueError(
            "must have the sslmode verify-full, which is the default for another machine, or disable: the others do "
            "not verify the server"
        )
    return parsed.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def portal_url(url: str) -> str:
    """Return a portal's REST address, ending in `/rest/`."""
    parts = web_address(url)
    if _WEBHOOK_PATH.fullmatch(parts.path):
        raise ValueError(
            "is the address of an incoming webhook, which cannot use offline events; "
            "give the portal's REST address and the application's credentials"
        )
    path = parts.path.rstrip("/") + "/"
    if not path.endswith("/rest/"):
        raise ValueError("must end in /rest/")
    return f"{parts.scheme}://{parts.netloc}{path}"


def secret_web_address(secret: SecretStr) -> SecretStr:
    """Return a web address of which a part may be secret, as its path often is."""
    web_address(secret.get_secret_value())
    return SecretStr(secret.get_secret_value().strip())


def auth_url(url: str) -> str:
    """Return the address of the token endpoint, with its final slash."""
    parts = web_address(url)
    if not parts.path.strip("/"):
        raise ValueError("must hold the path of the token endpoint")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/"


def push_url(url: str) -> str:
    """Return the address under which portals reach us."""
    return web_address(url).geturl()


def listen_address(text: str) -> str:
    """Return ``address:port``, the address an IP address; one of IPv6 in brackets."""
    host, colon, port = text.rpartition(":")
    try:
        ipaddress.ip_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
    except ValueError:
        host = ""
    if not host or not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError("must be an IP address and a port")
    return text


def parsed_json(text: str) -> object:
    """Return the value of a JSON text."""
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError("is not JSON") from None


def record_filter(value: object) -> object:
    """Return a JSON object of record fields with an operator before the name, and single values."""
    return checked_filter(parsed_json(value) if isinstance(value, str) else value)


def record_order(value: object) -> object:
    """Return `FIELD ASC|DESC`, several separated by commas, as a mapping of field to direction."""
    if not isinstance(value, str):
        return value
    words = [part.split() for part in value.upper().split(",")]
    order = {part[0]: part[-1] for part in words if len(part) == 2}
    # A field that is repeated, or has no direction, is missing from the mapping.
    return checked_order(order if len(order) == len(words) else None)


def existing_file(path: Path) -> Path:
    """Return the path of an existing file."""
    if not path.is_file():
        raise ValueError("names a file that does not exist")
    return path


def is_loopback(host: str) -> bool:
    """Return whether a host name means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def masked_url(url: str) -> str:
    """Return an address with its credentials and its query replaced by stars."""
    scheme, separator, rest = url.partition("://")
    if "@" in rest:
        rest = "***@" + rest.rpartition("@")[2]
    where, question, _ = rest.partition("?")
    return f"{scheme}{separator}{where}{question and '?***'}"


def web_address(url: str) -> SplitResult:
    """Return the parts of an https address without user, query or fragment; http is for loopback hosts only."""
    try:
        parts = urlsplit(url.strip())
        host = parts.hostname
        _ = parts.port
    except ValueError:
        raise ValueError("is not a web address") from None
    if parts.scheme not in {"http", "https"} or not host or " " in url.strip():
        raise ValueError("must be a web address that begins with https://")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("must hold neither credentials nor a query")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError("must begin with https://; plain http is for loopback hosts only")
    return parts
