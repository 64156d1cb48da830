"""What goes into a batch, and why a batch is open: its kind decides which limit counts it and who looks after it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from b24offline.events import Event

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
    """It waits for a person only; no limit counts it."""
    SYNTHETIC = "synthetic"
    """The portal knows nothing of it: objects run by hand or by reconciliation."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record as it goes into a batch: its event and the pipelines that run for it.

    ``skip`` is the outcome of a record without a pipeline: "succeeded" (acknowledge) or "failed" (nack); else "".
    """

    event: Event
    pipelines: tuple[str, ...] = ()
    skip: Literal["", "succeeded", "failed"] = ""


def is_synthetic(process_id: str) -> bool:
    """Return whether no portal knows of a batch; this stays so whatever kind it becomes."""
    return process_id.startswith(SYNTHETIC_PREFIX)


def run_id(event: Event, pipeline: str) -> str:
    """Return the run of one pipeline for one delivery of a record: ``123@1775203200/deal_changed``."""
    return f"{event.delivery}/{pipeline}"
