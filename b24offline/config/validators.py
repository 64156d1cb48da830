"""What a single setting may hold: parsing and checks of values, one function a kind.

Every check raises ValueError whose text completes the sentence "B24_X ..." and never repeats the value, which
may be a secret. All are pure but `existing_file`.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from b24offline.config.record_filter import checked_filter, checked_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from b24offline.config.settings import Config

_EVENT_NAME: Final = re.compile(r"[A-Z][A-Z0-9_.]{1,127}")
_MODULE_NAME: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_WEBHOOK_PATH: Final = re.compile(r"/rest/[0-9]+/[^/]+(/.*)?")
_LONGEST_CALL_SECONDS: Final = 70.0


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
        raise ValueError("holds something that is no event name")
    return found


def module_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Importable module names, at least one."""
    if not names or not all(_MODULE_NAME.fullmatch(name) for name in names):
        raise ValueError("must be one or more Python module names")
    return names


def one_word(secret: SecretStr) -> SecretStr:
    """Return a secret without white space inside, the usual trace of a broken copy."""
    text = secret.get_secret_value().strip()
    if not text or len(text.split()) != 1 or not text.isprintable():
        raise ValueError("must be one word without spaces or line breaks")
    return SecretStr(text)


def fernet_keys(secret: SecretStr) -> SecretStr:
    """Return one or more Fernet keys separated by commas, normalised."""
    keys = [key.strip() for key in secret.get_secret_value().split(",") if key.strip()]
    for number, key in enumerate(keys, start=1):
        try:
            size = len(base64.b64decode(key.encode(), altchars=b"-_", validate=True))
        except (binascii.Error, UnicodeEncodeError):
            size = 0
        if size != 32:
            raise ValueError(f"has a wrong key at place {number}: each must be 32 bytes in URL-safe base64")
    if not keys:
        raise ValueError("holds no key")
    return SecretStr(",".join(keys))


def redis_url(url: str) -> str:
    """Return an address of Redis or Valkey."""
    if not re.fullmatch(r"(rediss?|unix)://\S+", url):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    return url


def service_url(url: str) -> str:
    """Return an address with a scheme, as Celery takes it."""
    if not re.fullmatch(r"[a-z][a-z0-9+]*://\S*", url):
        raise ValueError("must be an address with a scheme")
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
    return parsed.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def portal_url(url: str) -> str:
    """Return a portal's REST address, ending in `/rest/`."""
    parts = _web_address(url)
    if _WEBHOOK_PATH.fullmatch(parts.path):
        raise ValueError(
            "is the address of an incoming webhook, which portals refuse for offline events; "
            "give the portal's REST address and the application's credentials"
        )
    path = parts.path.rstrip("/") + "/"
    if not path.endswith("/rest/"):
        raise ValueError("must end in /rest/")
    return f"{parts.scheme}://{parts.netloc}{path}"


def auth_url(url: str) -> str:
    """Return the address of the token endpoint, with its final slash."""
    parts = _web_address(url)
    if not parts.path.strip("/"):
        raise ValueError("must hold the path of the token endpoint")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/"


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
    """`FIELD ASC|DESC`, several separated by commas, as the portal's mapping of field to direction."""
    if not isinstance(value, str):
        return value
    words = [part.split() for part in value.upper().split(",")]
    order = {part[0]: part[-1] for part in words if len(part) == 2}
    # A field that is named twice, or has no direction, is missing here.
    return checked_order(order if len(order) == len(words) else None)


def existing_file(path: Path) -> Path:
    """Return a file that is there."""
    if not path.is_file():
        raise ValueError("names a file that does not exist")
    return path


def with_derived_defaults(given: Mapping[str, Any], redis_url: str) -> dict[str, Any]:
    """Return the given values plus defaults that follow from others: broker, database, name of the portal."""
    found = dict(given)
    found.setdefault("broker_url", found.get("redis_url", redis_url))
    found.setdefault("database_url", f"sqlite:///{Path(found.get('data_dir', './.data')) / 'b24offline.db'}")
    if found.get("portal_name") is None and isinstance(found.get("portal_url"), str):
        host = None
        with suppress(ValueError):  # an address that is none is told by its own check
            host = urlsplit(found["portal_url"]).hostname
        if host and re.fullmatch(r"[a-z0-9._-]{1,64}", host):
            found["portal_name"] = host
    return found


def check_together(config: Config) -> None:
    """Rules that concern several settings; raises ValueError with whole sentences, one a rule broken."""
    wrong: list[str] = []
    if config.portal_url is not None:
        if config.client_id is None:
            wrong.append("B24_CLIENT_ID is required because B24_PORTAL_URL is set, e.g. local.5f3a0b6c1d2e.81")
        if config.client_secret is None:
            wrong.append(
                "B24_CLIENT_SECRET (or B24_CLIENT_SECRET_FILE) is required because B24_PORTAL_URL is set: "
                "the application key shown beside its code in the portal"
            )
        if config.portal_name is None:
            wrong.append("B24_PORTAL_NAME is required because the host cannot serve as a name, e.g. acme")
    if config.secret_key is None and not config.database_url.startswith("sqlite"):
        wrong.append(
            "B24_SECRET_KEY (or B24_SECRET_KEY_FILE) is required because B24_DATABASE_URL is not SQLite; "
            "make one with: python -c "
            '"from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'
        )
    if config.poll_interval_min_seconds > config.poll_interval_max_seconds:
        wrong.append("B24_POLL_INTERVAL_MIN_SECONDS must not exceed B24_POLL_INTERVAL_MAX_SECONDS, e.g. 1 and 30")
    if config.connect_timeout_seconds + config.read_timeout_seconds > _LONGEST_CALL_SECONDS:
        wrong.append("B24_CONNECT_TIMEOUT_SECONDS and B24_READ_TIMEOUT_SECONDS must not exceed 70 s together")
    if wrong:
        raise ValueError("\n".join(f"{sentence}." for sentence in wrong))


def is_loopback(host: str) -> bool:
    """Return whether a host name means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def masked_url(url: str) -> str:
    """Return an address with what stands before its host, and any query, replaced by stars."""
    scheme, separator, rest = url.partition("://")
    if "@" in rest:
        rest = "***@" + rest.rpartition("@")[2]
    where, question, _ = rest.partition("?")
    return f"{scheme}{separator}{where}{question and '?***'}"


def _web_address(url: str) -> SplitResult:
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
