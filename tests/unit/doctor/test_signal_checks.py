"""What the doctor makes of a portal's signals."""

from __future__ import annotations

import pytest

from b24offline.doctor.signal_checks import SignalFacts, signal_check
from b24offline.ledger import Signals

NOW = 1_800_000_000_000
ADDRESS = "https://push.example.com/b24"


@pytest.mark.parametrize(
    ("address", "missing", "signals", "state", "words"),
    [
        ("", (), Signals(), "skipped", "B24_PUSH_URL is not set"),
        (ADDRESS, ("ONOFFLINEEVENT",), Signals(NOW), "warning", f"Not bound to {ADDRESS}: ONOFFLINEEVENT."),
        (ADDRESS, (), Signals(), "warning", "none has arrived yet"),
        (ADDRESS, (), Signals(NOW - 600_000, NOW - 120_000), "warning", "A poll 2 min ago found records"),
        (ADDRESS, (), Signals(NOW - 600_000, NOW - 900_000), "ok", "the last one came 10 min ago"),
    ],
)
def test_signals_never_fail_and_say_what_they_are(
    address: str, missing: tuple[str, ...], signals: Signals, state: str, words: str
) -> None:
    check = signal_check(SignalFacts(address, missing, signals, NOW), "acme")
    assert (check.state, words in check.finding, check.portal) == (state, True, "acme")
    assert bool(check.remedy) == (state == "warning")
