"""The settings of reading much at once: how many records, and which objects by list."""

from typing import Annotated

from pydantic import BaseModel, Field

from b24offline.config.fields import Names
from b24offline.config.lanes import LARGEST_BATCH, BatchSize


class BatchSettings(BaseModel):
    """A part of `Config`."""

    batch_size: BatchSize = Field(default=50, description="Records reserved by one call while few arrive, 1 to 500.")
    batch_size_max: BatchSize | None = Field(
        default=None,
        description=(
            "Records reserved by one call while batches are full, 1 to 500. Empty: 500, or B24_BATCH_SIZE where set."
        ),
    )
    max_in_flight_batches: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=20,
        description=(
            "Batches of B24_BATCH_SIZE records of one portal that may be open at once; a larger one counts as several. "
            "Polling pauses at this number."
        ),
    )
    read_by_get: Names = Field(
        default=(),
        description=(
            "Entities, separated by commas, whose objects are read one by one in a batch even where their list could "
            "answer fifty at once, e.g. crm_deal: for a portal whose list leaves fields out."
        ),
    )

    @property
    def largest_batch(self) -> int:
        """Records of one call while batches are full: a batch size that is given alone stays as it is."""
        if self.batch_size_max is not None:
            return self.batch_size_max
        return self.batch_size if "batch_size" in self.model_fields_set else LARGEST_BATCH
