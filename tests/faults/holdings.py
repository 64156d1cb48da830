"""What the ledger holds of one portal, for the checker to judge: a sample, and how much the settings allow."""

from __future__ import annotations

import time
from typing import Final

from redis import Redis

from b24offline import keys
from b24offline.config import DEFAULT_LANE, Config
from tests.faults.evidence import Bounds, Holding

MOST_ROWS: Final = 500
"""Records of a batch, by the documentation; a batch that is reserved has fewer."""
ENVELOPE: Final = 2
"""How many times longer a record may be in the ledger than in the portal's answer: as JSON in JSON, with its run."""
OVERHEAD: Final = 2
"""How much more memory keys take than what is counted of them."""


def held(redis: Redis, stem: str) -> Holding:
    """Return what is below a portal's stem now. Keys that end meanwhile count nothing."""
    names = [str(name) for name in redis.scan_iter(keys.pattern(stem), count=1000)]
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.memory_usage(name, samples=0)
        total_bytes = sum(size or 0 for size in pipe.execute())
        for name in names:
            if name.endswith(":records"):
                pipe.hvals(name)
        batches = pipe.execute()
    longest = max((len(text) for batch in batches for text in batch), default=0)
    return Holding(time.time(), max(map(len, batches), default=0), longest, total_bytes)


def allowed(config: Config) -> Bounds:
    """Return how much a portal may have in the ledger of a deployment with these settings."""
    one_batch = config.all_lanes[DEFAULT_LANE].largest * config.max_record_bytes
    return Bounds(MOST_ROWS, ENVELOPE * config.max_record_bytes, OVERHEAD * (config.portal_ledger_bytes + one_batch))
