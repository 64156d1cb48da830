"""`b24offline trigger`: run one object through its pipelines, without an event of the portal.

The command puts a request into the ledger. A worker, which knows the routes, opens a batch for it. No portal is called.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from b24offline.cli.audited import Audited
from b24offline.cli.output import Refusal, load_runtime, show_json
from b24offline.ledger import RUN
from b24offline.reconciliation import object_key

if TYPE_CHECKING:
    from b24offline.delivery import PortalServices
    from b24offline.ledger import JobQueue
    from b24offline.runtime import Runtime

LOOK_SECONDS: Final = 0.5
"""Between two reads of the answer."""


@click.command(cls=Audited)
@click.argument("words", metavar="OBJECT", nargs=-1, required=True)
@click.option("--portal", default="", help="Name of the portal; required if there are several.")
@click.option("--event", default="", help="Name of the event. Default: the update event of the object.")
@click.option("--pipeline", default="", help="Run only this pipeline.")
@click.option(
    "--wait", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Wait at most this many seconds."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def trigger(words: tuple[str, ...], portal: str, event: str, pipeline: str, wait: float, as_json: bool) -> None:
    """Run OBJECT through its pipelines, as if it had just changed.

    OBJECT is an entity and an id, such as crm_deal 871.
    """
    runtime = load_runtime()
    services = chosen(runtime, portal)
    key = object_key(services.portal.name, " ".join(words))
    if key is None:
        raise Refusal("OBJECT must be an entity and an id, as in: b24offline trigger crm_deal 871. Nothing was run.")
    if key.entity not in runtime.catalogue.entities:
        raise Refusal(
            f"{key.entity!r} is not an entity of any event. Use one such as crm_deal, crm_item or task. Nothing was "
            "run."
        )
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    body = {"entity": key.entity, "object_id": key.object_id, "event": event, "pipeline": pipeline, "stamp": stamp}
    answer = answered(services.requests, services.requests.enqueue(RUN, body), wait)
    if as_json:
        show_json(answer)
        if answer["state"] == "refused":
            sys.exit(1)
        return
    if answer["state"] == "refused":
        raise click.ClickException(f"{answer['why']}. Nothing was run.")
    click.echo(f"{answer['object']} runs through {', '.join(answer['pipelines'])} as {answer['event']}.")
    click.echo("If it fails, b24offline nacked lists it.")


def chosen(runtime: Runtime, name: str) -> PortalServices:
    """Return the portal of that name, or the only one. Raise a refusal if there are several, or it was removed."""
    names = [name] if name else runtime.store.portals.names()
    if len(names) != 1:
        raise Refusal(f"Choose a portal: --portal {' or '.join(names) or 'NAME'}. Nothing was done.")
    services = runtime.services(names[0])
    if not services.portal.served:
        raise Refusal(f"Portal {names[0]} was removed. Nothing was done.")
    return services


def answered(requests: JobQueue, number: str, wait_seconds: float) -> dict[str, Any]:
    """Wait for the answer to a request. Raise a failure if it does not come in time; the request stays queued."""
    deadline = time.monotonic() + wait_seconds
    while (answer := requests.answer(number)) is None:
        if time.monotonic() > deadline:
            why = (requests.progress(number) or {}).get("later") or "Check that beat and the workers are running."
            raise click.ClickException(f"No answer within {wait_seconds:.0f} s. The request stays queued. {why}")
        time.sleep(LOOK_SECONDS)
    return answer
