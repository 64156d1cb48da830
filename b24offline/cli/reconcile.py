"""`b24offline reconcile`: compare a portal with the mirror, and run the changes whose events never came.

The command puts a request into the ledger and waits for the answer of the workers. No portal is called.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from b24offline.cli.audited import Audited
from b24offline.cli.output import Refusal, load_runtime, show_json
from b24offline.cli.time_span import parsed_span
from b24offline.cli.trigger import answered, chosen
from b24offline.ledger import RECONCILE
from b24offline.reconciliation import BY_HAND, Job


@click.command(cls=Audited)
@click.option("--portal", default="", help="Name of the portal; required if there are several.")
@click.option(
    "--since", default="", help="Such as 36h, 2026-11-20 or 2026-11-20T08:00+02:00. Default: the last reconciliation."
)
@click.option("--deleted", is_flag=True, help="Also look for objects that the portal has deleted.")
@click.option("--dry-run", is_flag=True, help="Show what was missed, and run nothing.")
@click.option(
    "--wait", type=click.FloatRange(min=0), default=600.0, show_default=True, help="Wait at most this many seconds."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def reconcile(portal: str, since: str, deleted: bool, dry_run: bool, wait: float, as_json: bool) -> None:
    """Find changes whose events never came, and run them.

    The portal's lists are compared with the mirror, the table of the last known state of each object.
    """
    runtime = load_runtime()
    services = chosen(runtime, portal)
    now = services.ledger.now_ms()
    if since:
        try:
            begin = parsed_moment_ms(since, now)
        except ValueError as error:
            raise Refusal(f"--since: {error}. Nothing was done.") from None
    else:
        begin = runtime.reconcile_schedule(services.name).begin_ms(services.portal)
    job = Job(BY_HAND, begin, deleted=deleted, dry_run=dry_run)
    answer = answered(services.requests, services.requests.enqueue(RECONCILE, job.body()), wait)
    if as_json:
        show_json(answer)
        return
    for line in sentences(answer):
        click.echo(line)


def parsed_moment_ms(text: str, now_ms: int) -> int:
    """Return epoch milliseconds of a span before now, or of a date or time (default UTC). Raise ValueError."""
    try:
        return now_ms - round(parsed_span(text) * 1000)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is neither a span such as 36h nor a date such as 2026-11-20") from None
    found = round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    if not 0 <= found <= now_ms:
        raise ValueError(f"{text!r} is not in the past")
    return found


def sentences(answer: dict[str, Any]) -> list[str]:
    """Return what is shown of a reconciliation that ended."""
    span = " to ".join(_utc(answer[name]) for name in ("since_ms", "until_ms"))
    lines = [f"{answer['compared']} objects compared, changed from {span} UTC."]
    if answer["until_ms"] <= answer["since_ms"]:
        lines = [
            f"Nothing compared: what changed since {_utc(answer['since_ms'])} UTC may still be in the portal's queue."
        ]
    done = "would be run" if answer["dry_run"] else "are run"
    lines.append(f"{answer['missed']} missed and {answer['gone']} deleted objects {done}.")
    if answer["in_work"]:
        lines.append(f"{answer['in_work']} are already being processed.")
    lines += [f"  {entity}: {number}" for entity, number in sorted(answer["by_entity"].items())]
    if answer["dry_run"]:
        lines += [f"  {name}" for name in answer["found"]]
    lines += [f"Not comparable: {entity} ({why})." for entity, why in sorted(answer["not_comparable"].items())]
    return lines


def _utc(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(" ", "seconds").removesuffix("+00:00")
