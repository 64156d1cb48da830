"""Three steps, the last of which fails for some deals: each is a span of the same trace."""

import tracing  # noqa: F401 - first: it sets OpenTelemetry up

from b24offline.pipeline import fetch, load, route, step


class NoBudget(Exception):
    """The deal has nothing to be billed."""


@step
def check(reference):
    """Do nothing, as an example."""
    return reference


@step(final=NoBudget)
def bill(reference):
    """Refuse deals without an amount."""
    deal = load(reference).data
    if not float(deal["OPPORTUNITY"] or 0):
        raise NoBudget(deal["TITLE"])


@route("ONCRMDEALADD", "ONCRMDEALUPDATE")
def deal_billed(event):
    """Read the deal, then check and bill it."""
    return fetch.s() | check.s() | bill.s()
