"""Kinds of batches: why a batch is open, and so which gate counts it and who looks after it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

SYNTHETIC_PREFIX: Final = "synthetic:"
"""How the process ids of batches begin that no portal knows; the colon is refused by every call of the queue."""


class BatchKind(StrEnum):
    """Why a batch is open. The scripts of the ledger know these words."""

    POLLED = "polled"
    """A poll reserved it."""
    ADOPTED = "adopted"
    """It was reserved on the portal and unknown to the ledger."""
    RETRYING = "retrying"
    """Its records are nacked on the portal and run again."""
    DEAD_LETTERED = "dead_lettered"
    """It waits for a person only; no gate counts it."""
    SYNTHETIC = "synthetic"
    """The portal knows nothing of it: objects run by hand or by reconciliation."""


def is_synthetic(process_id: str) -> bool:
    """Return whether a batch was opened here, without the portal; it stays so whatever kind it becomes."""
    return process_id.startswith(SYNTHETIC_PREFIX)
