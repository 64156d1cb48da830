"""What is counted for a whole deployment: messages that were read, and what removed portals had counted.

A sum over all portals would fall when one is removed, which looks like a restart to whoever computes rates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from b24offline import keys

if TYPE_CHECKING:
    from redis import Redis


def retire_counters(redis: Redis, key_prefix: str, stem: str) -> None:
    """Add the counters of a portal that is removed to those of the deployment, once."""
    counters = redis.hgetall(keys.stats(stem))
    with redis.pipeline() as pipe:
        for name, value in counters.items():
            pipe.hincrby(keys.stats(key_prefix), str(name), int(value))
        pipe.delete(keys.stats(stem))
        pipe.execute()


def deployment_counters(redis: Redis, key_prefix: str) -> dict[str, int]:
    """Return field -> value."""
    return {str(name): int(value) for name, value in redis.hgetall(keys.stats(key_prefix)).items()}
