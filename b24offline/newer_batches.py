"""Batches that a newer version of this program wrote into the ledger: seen and shown, never touched.

Old and new workers share one ledger while an upgrade or a rollback is under way. Each transition looks at the schema of
what it would change (`scripts/prelude.lua`); here is what people are told, and what an operator may do when the newer
version does not come back. Raises ``redis.exceptions.RedisError`` when the ledger cannot be reached.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from b24offline.ledger import literal_pattern

if TYPE_CHECKING:
    from redis import Redis

    from b24offline.ledger import Ledger


class NewerBatches:
    """Those of one portal. ``ledger`` tells the schema that this version knows."""

    def __init__(self, redis: Redis, ledger: Ledger) -> None:
        self._redis = redis
        self._ledger = ledger

    def holds(self, process_id: str) -> bool:
        """Whether a batch is of a newer version; False for one that is not open."""
        return self._schema(self._redis.hget(f"{self._ledger.stem}:batch:{process_id}", "schema")) > self._ledger.schema

    def holds_run(self, run: str) -> bool:
        """Whether a run is of a newer version; False for one that is closed."""
        return self._schema(self._redis.hget(f"{self._ledger.stem}:run:{run}", "schema")) > self._ledger.schema

    def found(self) -> dict[str, int]:
        """Process id -> schema, of the open batches of newer versions."""
        process_ids = list(self._ledger.open_batches())
        with self._redis.pipeline(transaction=False) as pipe:
            for process_id in process_ids:
                pipe.hget(f"{self._ledger.stem}:batch:{process_id}", "schema")
            schemas = [self._schema(value) for value in pipe.execute()]
        pairs = zip(process_ids, schemas, strict=True)
        return {process_id: schema for process_id, schema in pairs if schema > self._ledger.schema}

    def forget(self, schema: int) -> int:
        """Drops the open batches of one newer schema with their runs; their records come back as orphans.

        Answers how many batches that were. Only for an operator who knows that no process of that version is left.
        Raises ValueError for a schema that this version works on itself.
        """
        if schema <= self._ledger.schema:
            raise ValueError(f"schema {schema} is known here")
        stem = f"{self._ledger.stem}:run:"
        # Any key of a run: that of a newer version may be found by its schema only.
        runs = [str(key).removeprefix(stem) for key in self._redis.scan_iter(f"{literal_pattern(stem)}*", count=1000)]
        batches = [process_id for process_id, found in self.found().items() if found == schema]
        told = self._ledger.transition("forget_newer", schema, json.dumps(runs), json.dumps(batches))
        return int(told[0])

    @staticmethod
    def _schema(value: object) -> int:
        return int(str(value or 1))
