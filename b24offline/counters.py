"""What is counted in the ledger for the metrics: the fields of histograms, their bounds, and the Lua that counts.

Counting happens inside of scripts that run anyway, in one hash a portal and one of the deployment. A histogram is one
field for each bound and one for the sum, in milliseconds: ``seconds:<name>:<bound>`` and ``seconds:<name>:sum``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

BOUNDS_SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 14_400.0)
"""Upper bounds of all histograms: from a quick answer to a retry that waits for hours."""
BEYOND: Final = "inf"
"""In the place of a bound: longer than all of them."""

_BOUNDS_MS: Final = ", ".join(f"{seconds * 1000:.0f}" for seconds in BOUNDS_SECONDS)

OBSERVE_LUA: Final = f"""
local BOUNDS_MS = {{ {_BOUNDS_MS} }}
local function observe(key, name, ms, by)
  ms = math.max(0, math.floor(ms))
  local bound = '{BEYOND}'
  for _, upto in ipairs(BOUNDS_MS) do
    if ms <= upto then
      bound = string.format('%d', upto)
      break
    end
  end
  redis.call('HINCRBY', key, 'seconds:' .. name .. ':' .. bound, by)
  redis.call('HINCRBY', key, 'seconds:' .. name .. ':sum', string.format('%.0f', ms * by))
end
"""
"""The function of scripts that counts something that took so many milliseconds, ``by`` times."""


def histogram(counters: Mapping[str, int], name: str) -> tuple[list[tuple[str, float]], float]:
    """Return (upper bound as text, how many were not longer) by ascending bound, "+Inf" the last; and the sum in
    seconds.

    ``counters``: field -> value, added up over portals.
    """
    total, buckets = 0.0, []
    for seconds in BOUNDS_SECONDS:
        total += counters.get(f"seconds:{name}:{seconds * 1000:.0f}", 0)
        buckets.append((str(seconds), total))
    total += counters.get(f"seconds:{name}:{BEYOND}", 0)
    return [*buckets, ("+Inf", total)], counters.get(f"seconds:{name}:sum", 0) / 1000
