"""The settings of this deployment: one `Config` read from the environment, and Celery's settings made of it.

A wrong value ends the process with a sentence that names the variable.
"""

from __future__ import annotations

from typing import Final

from b24offline.config import Config
from b24offline.errors import ConfigError


def load() -> Config:
    """Return the configuration of this process. End the process with the reasons where it cannot be used."""
    try:
        return Config.load()
    except ConfigError as error:
        raise SystemExit(f"b24offline cannot start.\n{error}") from None


config: Final = load()
"""The configuration of this process."""
