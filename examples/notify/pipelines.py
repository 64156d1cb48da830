"""Tell the person who is responsible for a deal when it is won.

A run may repeat, so the message has a tag: the portal replaces a message with the tag of an earlier one.
"""

from celery.exceptions import Ignore

from b24offline.pipeline import Permanent, current, fetch, load, route, step


@step
def only_won(reference):
    """End the run here, as a success, for every other deal."""
    deal = load(reference).data
    if deal is None or deal["STAGE_ID"] != "WON":
        raise Ignore
    return reference


@step(attempts=3, backoff=(1, 10))
def notify(reference):
    """Send the message of the portal."""
    deal = load(reference).data
    if not deal["ASSIGNED_BY_ID"]:
        raise Permanent("a won deal without a responsible person")
    message = {"USER_ID": deal["ASSIGNED_BY_ID"], "MESSAGE": f"Won: deal {deal['ID']}", "TAG": f"won|{deal['ID']}"}
    current().client.call("im.notify.personal.add", message)


@route("ONCRMDEALADD", "ONCRMDEALUPDATE")
def won_deal_announced(event):
    """Read the deal as it is now; tell of a won one."""
    return fetch.s() | only_won.s() | notify.s()
