"""A step that fails on a deal. Sentry hears of it when the run fails, not of each attempt."""

import reporting  # noqa: F401 - first: it sets Sentry up

from b24offline.pipeline import fetch, load, route, step


class NoBudget(Exception):
    """The deal has nothing to be billed."""


@step(final=NoBudget)
def bill(reference):
    """Refuse deals without an amount."""
    deal = load(reference).data
    if not float(deal["OPPORTUNITY"] or 0):
        raise NoBudget(deal["TITLE"])


@route("ONCRMDEALADD", "ONCRMDEALUPDATE")
def deal_billed(event):
    """Read the deal, then bill it."""
    return fetch.s() | bill.s()
