"""Environment variables as the arguments of `Config`, and its validation errors as sentences.

A variable's name follows from its field: `B24_` and the field in upper case, unless the field says otherwise.
A secret may be given as a file instead, by the variable with `_FILE` appended to its name.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from b24offline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel, ValidationError

PREFIX: Final = "B24_"
FILE_SUFFIX: Final = "_FILE"
_MAX_SHOWN_CHARACTERS: Final = 60

EXAMPLES: Final[Mapping[str, str]] = {
    "redis_url": "redis://127.0.0.1:6379/0",
    "sentinel_password": "the requirepass of the Sentinels",
    "broker_url": "amqp://user:password@rabbitmq:5672//",
    "data_dir": "/var/lib/b24offline",
    "database_url": "postgresql://user:password@postgres/b24offline?sslmode=disable",
    "secret_key": "the output of: python -c "
    '"from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"',
    "portal_url": "https://acme.bitrix24.com/rest/",
    "portal_name": "acme",
    "client_id": "local.5f3a0b6c1d2e.81",
    "client_secret": "the application key shown beside its code in the portal",
    "refresh_token": "the refresh_token of the answer to the authorization",
    "events": "ONCRMDEALADD,ONCRMDEALUPDATE",
    "push_url": "https://push.example.com/b24",
    "filter": '{"=EVENT_NAME": "ONCRMDEALADD"}',
    "ca_file": "/etc/ssl/certs/portal.pem",
    "issue_webhook_url": "https://alarms.example/b24offline",
    "issue_webhook_secret": "the output of: openssl rand -hex 32",
    "service_ca_file": "/etc/ssl/certs/services.pem",
    "claim_orphans": "true",
    "auto_subscribe": "true",
    "remote_control": "true",
}
"""A valid value for each field without a default; for the others the default is the example."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable: its name, the field it fills, and what the documentation says of it.

    Attributes:
        name: as in the environment.
        field: name of the field of `Config`.
        default: the default as text, "" for none.
        derived: where the default comes from when other settings decide it, "" otherwise.
        description: what it does, with its unit.
        secret: whether it is never shown and may be given as `<name>_FILE`.
        example: a valid value.
        public: whether it is a setting of a deployment; the others are for tests and the demo.
    """

    name: str
    field: str
    default: str
    derived: str
    description: str
    secret: bool
    example: str
    public: bool


def variables(config: type[BaseModel]) -> Iterator[Variable]:
    """Yield every variable of a configuration class, in the order of its fields; those it inherits are the last."""
    for field, info in sorted(config.model_fields.items(), key=lambda each: each[0] not in config.__annotations__):
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        derived = str(extra.get("derived", ""))
        default = "" if derived else str(extra.get("default", _written(info.default)))
        yield Variable(
            name=str(extra.get("variable", PREFIX + field.upper())),
            field=field,
            default=default,
            derived=derived,
            description=info.description or "",
            secret=bool(extra.get("secret", False)),
            example=EXAMPLES.get(field, default),
            public=bool(extra.get("public", True)),
        )


def read_environment(config: type[BaseModel], environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the values given in the environment, by field; empty variables count as unset.

    Raises:
        ConfigError: an unknown `B24_*` variable, a secret that is given twice, or whose file cannot be read.
    """
    source = os.environ if environ is None else environ
    known = {variable.name: variable for variable in variables(config)}
    settings = [name for name, variable in known.items() if variable.public]
    files = {name + FILE_SUFFIX: variable for name, variable in known.items() if variable.secret}
    wrong: list[str] = []
    given: dict[str, Any] = {}
    for name in sorted(source):
        if name in known and source[name].strip():
            given[known[name].field] = source[name].strip()
        elif name.startswith(PREFIX) and name not in known and name not in files:
            wrong.append(_unknown(name, [*settings, *files]))
    for name, variable in files.items():
        if not (path := source.get(name, "").strip()):
            continue
        if variable.field in given:
            wrong.append(f"{variable.name} and {name} are both set: keep one of them.")
            continue
        try:
            given[variable.field] = _file_content(path)
        except ValueError as error:
            wrong.append(f"{name} names a file that {error}, e.g. /run/secrets/name with the value of {variable.name}.")
    if wrong:
        raise ConfigError("\n".join(wrong))
    return given


def config_error(config: type[BaseModel], error: ValidationError, given: Mapping[str, Any]) -> ConfigError:
    """Return a validation error as sentences: variable, what is wrong, a valid value; never a secret."""
    known = {variable.field: variable for variable in variables(config)}
    sentences: list[str] = []
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    # A default derived from a wrong value is wrong too; only the value that was given is reported.
    own = [problem for problem in problems if not problem["loc"] or problem["loc"][0] in given]
    for problem in own or problems:
        reason = problem["msg"].removeprefix("Value error, ")
        variable = known.get(str(problem["loc"][0])) if problem["loc"] else None
        if variable is None:
            sentences.append(reason)
        else:
            if problem["type"] != "value_error":
                reason = f"is not valid: {reason[:1].lower()}{reason[1:]}"
            sentences.append(_sentence(variable, reason, given.get(variable.field)))
    return ConfigError("\n".join(dict.fromkeys(sentences)))


def _sentence(variable: Variable, reason: str, value: object) -> str:
    shown = "" if variable.secret else _shown(value)
    example = f", e.g. {variable.example}" if variable.example else ""
    return f"{variable.name}{shown} {reason}{example}."


def _file_content(path: str) -> str:
    """Return the stripped text of a file; raise ValueError that says what is wrong with the file."""
    try:
        content = Path(path).read_text("utf-8").strip()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ValueError("cannot be read (not text)") from None
    if not content:
        raise ValueError("is empty")
    return content


def _unknown(name: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"{name} is not a setting; the nearest is {nearest[0]}. Rename or unset it."


def _shown(value: object) -> str:
    text = "" if value is None else str(value)
    plain = text and text.isprintable() and len(text) <= _MAX_SHOWN_CHARACTERS and "://" not in text
    return f" ({text})" if plain else ""


def _written(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return "{}" if value == {} else str(value)
