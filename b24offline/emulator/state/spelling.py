"""How names and values are written: upper case and texts, camel case, camel case and texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OWN = ("ID", "id", "entityTypeId", "DATE_CREATE", "DATE_MODIFY")


def camel(name: str) -> str:
    """Return a name in camel case: `RESPONSIBLE_ID` -> `responsibleId`; mixed case stays as it is."""
    if name != name.upper():
        return name
    head, *rest = name.lower().split("_")
    return head + "".join(part.capitalize() for part in rest)


def spelled(entity: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields from a caller in the entity's own spelling and types; what only the portal sets is left out."""
    if entity == "crm_item":
        return {camel(name): _flag(value) for name, value in fields.items() if camel(name) not in _OWN}
    if entity == "task":
        return {camel(name): as_text(value) for name, value in fields.items() if camel(name) not in _OWN}
    return {name.upper(): as_text(value) for name, value in fields.items() if name.upper() not in _OWN}


def as_text(value: Any) -> Any:
    """Return a value as the older methods store it: numbers as texts, true as a flag, null and false as they are."""
    if value is None or value is False or isinstance(value, str):
        return value
    if value is True:
        return "Y"
    if isinstance(value, Mapping):
        return {str(name): as_text(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_text(item) for item in value]
    return str(value)


def _flag(value: Any) -> Any:
    return "Y" if value is True else "N" if value is False else value
