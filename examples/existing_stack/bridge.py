"""Our pipelines beside the shop. `B24_PIPELINES=bridge B24_EXTERNAL_QUEUES=celery`."""

import os

from b24offline.pipeline import current, fetch, handoff, route, step


@step
def conclude(reference):
    """Go on after the shop's step, in our worker again."""
    _note(f"concluded {current().event.object}")


@step
def take_order(number):
    """Take what the shop sends by name. Outside a run a step is an ordinary task."""
    _note(f"took order {number}")


@route("ONCRMDEALUPDATE")
def deal_announced(event):
    """Read the deal, let the shop announce it, conclude."""
    return fetch.s() | handoff("tasks.announce", queue="celery") | conclude.s()


def _note(line):
    with open(os.environ["SHOP_NOTES"], "a", encoding="utf-8") as notes:
        notes.write(f"{line}\n")
