"""The same as Sentry's documentation begins: what not to do. The title of the deal is among the local variables."""

import sentry_sdk

from b24offline.pipeline import fetch, load, route, step

sentry_sdk.init()


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
