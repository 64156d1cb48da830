"""The shop's tasks. That b24offline has modules of such names, too, matters to nobody."""

import os

from shop import B24_EVENTS, app


def note(line):
    with open(os.environ["SHOP_NOTES"], "a", encoding="utf-8") as notes:
        notes.write(f"{line}\n")


@app.task(name="tasks.stocktake")
def stocktake():
    """Run by the shop's own beat."""
    note("stocktake")


@app.task(name="tasks.announce")
def announce(reference):
    """Run by the shop's worker as a step of a pipeline of b24offline."""
    note(f"announced {reference['entity']} {reference['object_id']}")
    return reference


@app.task(name="tasks.order")
def order(number):
    """Hand work to b24offline by the name of a step."""
    app.send_task("b24offline.step.bridge.take_order", args=[number], queue=B24_EVENTS)
