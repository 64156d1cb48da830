"""When signals are relied on."""

from __future__ import annotations

from b24offline.delivery.signals import MISSED_SECONDS, are_trusted, was_missed
from b24offline.ledger import Signals

NOW = 1_800_000_000_000
LATE = round(MISSED_SECONDS * 1000)


def test_signals_are_trusted_from_the_first_until_one_is_missed() -> None:
    assert not are_trusted(Signals())
    assert are_trusted(Signals(heard_ms=NOW))
    assert not are_trusted(Signals(heard_ms=NOW, missed_ms=NOW + 1))
    assert are_trusted(Signals(heard_ms=NOW + 2, missed_ms=NOW + 1)), "one that is heard gives the trust back"


def test_a_record_long_after_the_last_signal_came_without_one() -> None:
    assert was_missed(Signals(heard_ms=NOW - LATE - 1), NOW)
    assert not was_missed(Signals(heard_ms=NOW - LATE), NOW)


def test_nothing_is_missed_where_nothing_was_expected() -> None:
    assert not was_missed(Signals(), NOW)
    assert not was_missed(Signals(heard_ms=1, missed_ms=2), NOW)
