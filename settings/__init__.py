"""The values of this deployment: one `Config` read from the environment, and Celery's settings made of it.

A wrong value stops the start here, with a sentence that names the variable.
"""

from __future__ import annotations

from typing import Final

from b24offline.config import Config
from b24offline.errors import ConfigError


def load() -> Config:
    """Return the configuration of this process. Ends the process with the reasons when it cannot be used."""
    try:
        return Config.load()
    except ConfigError as error:
        raise SystemExit(f"b24offline cannot start.\n{error}") from None


config: Final = load()
"""The configuration of this process."""
