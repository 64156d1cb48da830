"""Types and marks that fields of the configuration share."""

from typing import Annotated, Final

from pydantic import BeforeValidator, Field
from pydantic.config import JsonDict

from b24offline.config import validators as values

AMQP: Final = ("amqp:", "amqps:", "pyamqp:")
"""How the address of a RabbitMQ begins."""

SECRET: Final[JsonDict] = {"secret": True}
"""Marks a field that may also be given as a file, by a variable ending in `_FILE`, and is never shown."""

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
PrimaryName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Names = Annotated[tuple[str, ...], BeforeValidator(values.comma_separated)]
