"""Values of options, checked by the rules of the settings that they stand for."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from b24offline.cli.output import Refusal
from b24offline.config import Config


def checked(field: str, option: str, value: str) -> str:
    """Validate a value by the rules of the corresponding setting. Raise the refusal that names the option."""
    info = Config.model_fields[field]
    kind: Any = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
    try:
        found = TypeAdapter(kind).validate_python(value.strip())
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
        raise Refusal(f"{option} {reason}. Nothing was changed.") from None
    text: str = found.get_secret_value() if hasattr(found, "get_secret_value") else found
    return text


def checked_address(config: Config, field: str, option: str, value: str) -> str:
    """Return an address that this deployment may use. Raise the refusal that names the option."""
    address = checked(field, option, value)
    if why := config.refused_address(**{field: address}):
        raise Refusal(f"{option} {why}. Nothing was changed.")
    return address
