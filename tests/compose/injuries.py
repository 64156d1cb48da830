"""What an operator's hour does to a deployment of compose.yaml, and how it is mended: by what the runbook says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.compose.engine import Failed, run
from tests.compose.prometheus import Prometheus
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.compose.project import Project

MOVED_SECONDS = 700
"""More than the ten minutes after which a full lane, or a portal without an answer, is an issue."""
ASK_VALKEY = 'REDISCLI_AUTH="$(cut -d " " -f 2 /run/secrets/valkey_conf)" valkey-cli'


@dataclass(frozen=True)
class Fault:
    """What breaks, which alerts must fire, and the remedy.

    Attributes:
        name: in the table.
        alerts: all of them must fire; the first one's runbook is followed.
        remedy: in the table.
        says: words of the runbook that ask for it.
        break_it: injects it.
        mend: applies the remedy.
    """

    name: str
    alerts: tuple[str, ...]
    remedy: str
    says: str
    break_it: Callable[[Project], None]
    mend: Callable[[Project], None]


def _kill(*services: str) -> Callable[[Project], None]:
    return lambda project: _each(project, ("docker", "kill", "--signal", "KILL"), services)


def _stop(*services: str) -> Callable[[Project], None]:
    return lambda project: _each(project, ("docker", "stop"), services)


def _start(*services: str) -> Callable[[Project], None]:
    return lambda project: _each(project, ("docker", "start"), services)


def _each(project: Project, command: tuple[str, ...], services: tuple[str, ...]) -> None:
    for service in services:
        run(*command, *(container.id for container in project.containers(service)))


def _of_portal(expression: str) -> Callable[[Project], None]:
    def ask(project: Project) -> None:
        project.ask_portal(expression)

    return ask


def _valkey(project: Project, *words: str) -> str:
    [valkey] = project.containers("valkey")
    return run("docker", "exec", valkey.id, "sh", "-c", f'{ASK_VALKEY} "$@"', "ask", *words)


def _command(project: Project, *words: str, stdin: str | None = None) -> str:
    """Run a command of ours in a worker, as the documentation says for Compose."""
    worker = project.containers("worker")[0]
    return run("docker", "exec", "-i", worker.id, "b24offline", *words, stdin=stdin, timeout_seconds=300)


def _fill_valkey(project: Project) -> None:
    [line] = [line for line in _valkey(project, "info", "memory").splitlines() if line.startswith("used_memory:")]
    _valkey(project, "config", "set", "maxmemory", str(round(int(line.partition(":")[2]) / 0.92)))


def _raise_maxmemory(project: Project) -> None:
    _valkey(project, "config", "set", "maxmemory", "384mb")


def _stop_settling(project: Project) -> None:
    _stop("settle")(project)
    full = Prometheus(project.prometheus_port)
    wait_until(lambda: full.values("b24offline_full_lanes") == [1], "the lane is full", 300, pause_seconds=2)
    project.ask("lanes-full-for", str(MOVED_SECONDS), service="worker")


def _cut_the_portal_off(project: Project) -> None:
    project.ask_portal("portal.fault('*', 'hang', seconds=30)")
    wait_until(lambda: project.ask("silent-for", str(MOVED_SECONDS)), "a circuit is open", 120, pause_seconds=2)


def _revoke(project: Project) -> None:
    project.ask_portal("(portal.revoke_tokens(), portal.expire_tokens())")


AUTHORIZED = """
import json, urllib.parse, urllib.request
from b24offline.emulator import Control
given = {"grant_type": "authorization_code", "client_id": "demo"}
given["client_secret"] = open("/run/secrets/client_secret").read()
given["code"] = Control("http://127.0.0.1:8000/control/").issue_code()
with urllib.request.urlopen("http://127.0.0.1:8000/oauth/token/?" + urllib.parse.urlencode(given)) as answer:
    print(json.load(answer)["refresh_token"])
"""
"""What an administrator's consent leads to: a new pair of tokens."""


def _authorize(project: Project) -> None:
    [emulator] = project.containers("emulator")
    token = run("docker", "exec", emulator.id, "python", "-c", AUTHORIZED)
    _command(project, "portal", "authorize", "demo", "--refresh-token-file", "-", stdin=token)


def _refuse_an_entity(project: Project) -> None:
    plan = "status=400, code='ERROR_ARGUMENT', description='broken by hand'"
    for match in ("batch/crm.company.*", "crm.company.*"):
        project.ask_portal(f"portal.fault('{match}', 'error', {plan})")
    project.ask_portal("portal.change('crm_company', 'update', count=3)")


def _redrive(project: Project) -> None:
    project.ask_portal("portal.disarm()")
    letters = json.loads(_command(project, "dead-letter", "list", "--portal", "demo", "--json"))
    assert letters, "nothing is listed"
    _command(project, "dead-letter", "redrive", "--portal", "demo")


def _end_a_subscription(project: Project) -> None:
    project.ask_portal("portal.drop_subscriptions('ONCRMCONTACTUPDATE')")
    project.ask_portal("portal.change('crm_contact', 'update', count=7)")
    _reconcile(project)


def _bind_and_reconcile(project: Project) -> None:
    def bound() -> bool:
        try:
            _command(project, "bind", "--portal", "demo")
        except Failed as error:
            if "may be called again" not in str(error):
                raise
            return False  # the workers have used the rate limit up: once more
        return True

    wait_until(bound, "the events are subscribed", 60, pause_seconds=1)
    # What changed a moment before the first one is too fresh to be compared: it is found by the next.
    wait_until(lambda: _reconcile(project) == 0, "a reconciliation finds nothing", 300)


def _reconcile(project: Project) -> int:
    """Reconcile. Return how many changes were missed."""
    told = _command(project, "reconcile", "--portal", "demo", "--since", "1h", "--wait", "240", "--json")
    return int(json.loads(told)["missed"])


PREFIX = "B24Offline"
FAULTS = (
    Fault(
        "both workers are killed and stay down",
        ("NotPolled",),
        "start the workers",
        "start beat, and a worker for the queue `b24offline.poll`",
        _kill("worker"),
        _start("worker"),
    ),
    Fault(
        "beat is stopped",
        ("NotPolled",),
        "start beat",
        "start beat, and a worker for the queue `b24offline.poll`",
        _stop("beat"),
        _start("beat"),
    ),
    Fault(
        "settle is stopped",
        ("GateFull",),
        "start settle",
        "start a worker for the queue `b24offline.settle`",
        _stop_settling,
        _start("settle"),
    ),
    Fault(
        "Valkey, ledger and broker, is killed and stays down",
        ("LedgerUnreachable", "PartDown"),
        "start Valkey",
        "bring Redis back",
        _kill("valkey"),
        _start("valkey"),
    ),
    Fault(
        "Valkey hangs: its processes are frozen",
        ("LedgerUnreachable", "PartDown"),
        "let it go on",
        "bring Redis back",
        lambda project: _each(project, ("docker", "pause"), ("valkey",)),
        lambda project: _each(project, ("docker", "unpause"), ("valkey",)),
    ),
    Fault(
        "PostgreSQL is stopped",
        ("PartDown",),
        "start PostgreSQL",
        "bring it back",
        _stop("postgres"),
        _start("postgres"),
    ),
    Fault(
        "Valkey has used 92 % of its memory",
        ("LedgerFull", "BrokerFull"),
        "raise `maxmemory`",
        "raise `maxmemory`",
        _fill_valkey,
        _raise_maxmemory,
    ),
    Fault(
        "the portal answers no call",
        ("NotAnswering",),
        "the portal, or the network, is mended",
        "look at DNS, the network, a proxy and certificates",
        _cut_the_portal_off,
        _of_portal("portal.disarm()"),
    ),
    Fault(
        "the authorization is revoked",
        ("PortalState",),
        "`b24offline portal authorize`, with a new token",
        "an administrator of the portal authorizes again",
        _revoke,
        _authorize,
    ),
    Fault(
        "the portal's plan loses offline events",
        ("PortalState",),
        "the plan is changed back",
        "the portal's administrator changes the plan",
        _of_portal("portal.licence(rest_offline_extended=False)"),
        _of_portal("portal.licence(rest_offline_extended=True)"),
    ),
    Fault(
        "the portal refuses to read three companies",
        ("DeadLetters",),
        "it reads them again; `b24offline dead-letter list`, then `redrive`",
        "`b24offline dead-letter list`, then redrive or drop them",
        _refuse_an_entity,
        _redrive,
    ),
    Fault(
        "a subscription is removed, seven contacts change, a reconciliation runs",
        ("MissedChanges",),
        "`b24offline bind`, `b24offline reconcile`",
        "the next day's, or `b24offline reconcile`",
        _end_a_subscription,
        _bind_and_reconcile,
    ),
    Fault(
        "the exporter is stopped",
        ("ExporterDown",),
        "start it",
        "start it",
        _stop("metrics"),
        _start("metrics"),
    ),
)
