"""What an import came to, in numbers that were counted and in plain words. Pure."""

from __future__ import annotations

from dataclasses import dataclass

LOOP_REQUESTS_PER_EVENT = 3
"""Requests of a loop that takes one event at a time: reserve it, read its object, acknowledge it."""


@dataclass(frozen=True)
class Yield:
    """What it took to mirror and acknowledge events.

    Attributes:
        events: how many were acknowledged.
        requests: sent to the portal meanwhile, as the portal counted them; a batch of calls is one request.
        seconds: from the change of the first object to the last acknowledgement.
        rate: requests a second that the portal allows.
    """

    events: int
    requests: int
    seconds: float
    rate: float

    @property
    def events_per_second(self) -> float:
        """Events acknowledged in a second."""
        return self.events / self.seconds if self.seconds > 0 else 0.0

    @property
    def requests_per_event(self) -> float:
        """Requests that an event took."""
        return self.requests / self.events if self.events else 0.0

    @property
    def loop_seconds(self) -> float:
        """How long a loop would take for the same events, by the portal's limit alone."""
        return self.events * LOOP_REQUESTS_PER_EVENT / self.rate

    def in_words(self) -> str:
        """Return it as sentences."""
        return (
            f"The import: {self.events} events in {self.seconds:.1f} s, [bold]{self.events_per_second:.0f} events a "
            f"second[/], every object read from the portal.\n"
            f"That took {self.requests} requests to the portal, [bold]{self.requests_per_event:.3f} requests an "
            f"event[/].\nA loop that reserves, reads and acknowledges one event at a time needs "
            f"{LOOP_REQUESTS_PER_EVENT}; by this portal's limit of {self.rate:g} requests a second it would take "
            f"{self.loop_seconds / 60:.0f} minutes (calculated)."
        )
