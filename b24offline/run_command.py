"""`b24offline run`: one object through its pipelines, without an event of the portal.

The command leaves a request in the ledger; a worker, which knows the routes, opens a local batch. No portal is called.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from b24offline.command_line import as_sentences, failure, refusal, runtime, show_json
from b24offline.injection import object_key
from b24offline.reconcile_schedule import RUN

if TYPE_CHECKING:
    from b24offline.request_box import RequestBox
    from b24offline.runtime import Runtime
    from b24offline.services import PortalKit

LOOK_SECONDS: Final = 0.5
"""Between looks for an answer."""


@click.command()
@click.argument("words", metavar="OBJECT", nargs=-1, required=True)
@click.option("--portal", default="", help="Name of the portal; needed where there are several.")
@click.option("--event", default="", help="The event to run. Default: the object's update event that has a route.")
@click.option("--pipeline", default="", help="Only this one of the event's pipelines.")
@click.option("--wait", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Seconds for the workers.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@as_sentences
def run(words: tuple[str, ...], portal: str, event: str, pipeline: str, wait: float, as_json: bool) -> None:
    """Run an OBJECT, named as in other commands ("crm_deal 871"), as if it had changed just now."""
    here = runtime()
    kit = chosen(here, portal)
    key = object_key(kit.portal.name, " ".join(words))
    if key is None:
        raise refusal("OBJECT must be an entity and an id, as in: b24offline run crm_deal 871. Nothing was run.")
    if key.entity not in here.catalogue.entities:
        raise refusal(f"No event points to a {key.entity!r}: write crm_deal, crm_item, task. Nothing was run.")
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    body = {"entity": key.entity, "object_id": key.object_id, "event": event, "pipeline": pipeline, "stamp": stamp}
    answer = answered(kit.requests, kit.requests.ask(RUN, body), wait)
    if as_json:
        show_json(answer)
        if answer["state"] == "refused":
            sys.exit(1)
        return
    if answer["state"] == "refused":
        raise failure(f"{answer['why']}. Nothing was run.")
    click.echo(f"{answer['object']} runs through {', '.join(answer['pipelines'])} as {answer['event']}.")
    click.echo("If it fails, it waits in the error lane: b24offline marked --records")


def chosen(here: Runtime, name: str) -> PortalKit:
    """The portal of that name, or the only one. Raises a refusal when there are several, or it was removed."""
    names = [name] if name else here.store.names()
    if len(names) != 1:
        raise refusal(f"Say which portal: --portal {' or '.join(names) or 'NAME'}. Nothing was done.")
    kit = here.kit(names[0])
    if not kit.portal.served:
        raise refusal(f"Portal {names[0]} was removed. Nothing was done.")
    return kit


def answered(box: RequestBox, number: str, wait_seconds: float) -> dict[str, Any]:
    """The answer to a request. Raises a failure when it does not come in time; the request stays."""
    deadline = time.monotonic() + wait_seconds
    while (answer := box.answer(number)) is None:
        if time.monotonic() > deadline:
            why = (box.progress(number) or {}).get("later") or "Are beat and the workers running?"
            raise failure(f"No answer within {wait_seconds:.0f} s; it stays asked for. {why}")
        time.sleep(LOOK_SECONDS)
    return answer
