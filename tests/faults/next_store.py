"""Makes a worker of a row that of the next version: one whose tables of the store have one more step."""

from __future__ import annotations

import os
from typing import Final

from b24offline.store import schema

VARIABLE: Final = "B24OFFLINE_TEST_NEXT_STORE"
"""Set in the environment of a worker of the next version, to one of these."""
ADDITIVE: Final = "additive"
"""The version before may go on with the tables."""
BREAKING: Final = "breaking"
"""The version before must not."""
VERSION: Final = schema.SCHEMA_VERSION + 1
STEP: Final = "ALTER TABLE portals ADD COLUMN made_up VARCHAR(16) NOT NULL DEFAULT 'new'"


def pretend() -> None:
    """From now on this process is of the next version."""
    schema.STEPS = {**schema.STEPS, VERSION - 1: (STEP,)}  # type: ignore[misc]
    if os.environ[VARIABLE] == BREAKING:
        schema.READABLE_FROM = VERSION  # type: ignore[misc]
    schema.SCHEMA_VERSION = VERSION  # type: ignore[misc]
