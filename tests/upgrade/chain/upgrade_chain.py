"""A pipeline that both versions run; its middle step writes a line when it begins and when it ends."""

import os
import time

from b24offline.pipeline import current, fetch, route, step, upsert


def _write(mark):
    line = f"{mark} {current().idempotency_key} {os.environ['UPGRADE_VERSION']}\n"
    with open(os.environ["UPGRADE_JOURNAL"], "a", encoding="utf-8") as journal:
        journal.write(line)


@step
def note(reference):
    """Take a moment, so that some are running whenever a worker is stopped."""
    _write("begin")
    time.sleep(0.2)
    _write("end")
    return reference


@route("ONCRMDEALADD", "ONCRMDEALUPDATE", "ONCRMDEALDELETE", mirrors="crm_deal")
def deal_noted(event):
    """Read, note, mirror."""
    return fetch.s() | note.s() | upsert.s()
