"""Brings compose.yaml up for real, kills and restarts everything, and compares mirror and portal: `make compose-test`.

On Valkey and on RabbitMQ as the broker, or on the one that is named; then the compose.yaml of `b24offline new`.

Ends with 0 when all of it held, 1 when something did not, 2 when there is no engine to try it on.
"""

from __future__ import annotations

import base64
import json
import re
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from b24offline.monitoring import IssueCode
from tests.compose.engine import Failed, NoEngine, run
from tests.compose.new_folder import NewFolder
from tests.compose.project import WORKERS, Container, Project
from tests.compose.prometheus import Prometheus
from tests.support import waiting

BROKERS = ("valkey", "rabbitmq")
RATE, SECONDS = 20, 25
BACKLOG, BUSY = 200, 6
"""Objects changed at once before the kill, and steps that must wait in the workers' 8 children when it comes."""
DRAIN_SECONDS = 400
OUR_SERVICES = ("beat", "flower", "metrics", "settle", "worker")
KILL_MAIN = "kill -9 $(cat /proc/1/task/1/children)"
"""Ends what the container's init started; a signal to init itself is ignored from the inside."""

_began = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - _began:4.0f} s  {text}", flush=True)


def wait_until(condition: Callable[[], object], what: str, seconds: float) -> None:
    waiting.wait_until(condition, what, seconds, pause_seconds=1)


def expect(condition: object, what: str) -> None:
    if not condition:
        raise Failed(f"expected, but not so: {what}")


def settled(project: Project) -> tuple[Any, Any]:
    """Wait until nothing is left, expect that the mirror is the portal, and return progress and comparison."""
    wait_until(
        lambda: project.ask("progress")["waiting"] == 0,
        "nothing waits in the portal's queue or the ledger",
        DRAIN_SECONDS,
    )
    now, found = project.ask("progress"), project.ask("difference")
    expect(not (found["missing"] or found["stale"] or found["extra"]), f"the mirror is the portal: {found}")
    return now, found


def changes_survive_the_death_of_workers(project: Project) -> None:
    """While changes arrive, kill a worker's container and settle's main process; expect that nothing is missing."""
    wait_until(lambda: project.ask("bound"), "the workers subscribe their events", 120)
    say(f"{RATE} changes a second for {SECONDS} s")
    project.ask("traffic", str(RATE), str(SECONDS))
    wait_until(lambda: project.ask("progress")["counters"].get("events_acknowledged", 0), "events are served", 60)
    project.ask("backlog", str(BACKLOG))
    project.ask_and_leave("lock-mirror", "60")
    wait_until(lambda: project.ask("lock-waiters") >= BUSY, "the workers' steps wait for the locked mirror", 60)
    victim = project.containers("worker")[0]
    run("docker", "kill", "--signal", "KILL", victim.id)
    [dead] = [worker for worker in project.containers("worker") if worker.id == victim.id]
    expect((dead.status, dead.exit_code) == ("exited", 137), f"{dead.name} is dead, not {dead.status}")
    say(f"SIGKILL to the container {victim.name}")
    [settle] = project.containers("settle")
    run("docker", "exec", settle.id, "sh", "-c", KILL_MAIN, check=False)
    wait_until(lambda: project.containers("settle")[0].restarts == 1, "settle is restarted by the engine", 60)
    say("SIGKILL to settle's main process; the engine restarted it")
    run("docker", "start", victim.id)
    say(f"{victim.name} is started again")
    project.wait_until_healthy()
    wait_until(lambda: not project.ask("progress")["running"], "the changes end", SECONDS + 60)

    now, found = settled(project)
    counters = now["counters"]
    expect(now["changes"] == RATE * SECONDS, f"{RATE * SECONDS} changes were made, not {now['changes']}")
    expect(found["compared"] >= BACKLOG, "objects were compared")
    expect(counters.get("runs_swept", 0) > 0, "what the killed worker ran was given to another one")
    expect(
        counters.get("events_acknowledged", 0) >= found["compared"],
        f"acknowledged by the workers: {counters}",
    )
    reply = ("events_seen", "events_acknowledged", "runs_swept", "batches_adopted", "runs_retried")
    say(f"{now['changes']} changes, and {BACKLOG} at once: {found['compared']} objects, none missing, stale or extra")
    say(", ".join(f"{name} {counters.get(name, 0)}" for name in reply))


def changes_survive_restarts_of_everything(project: Project) -> None:
    """While changes arrive, replace workers one by one, kill the broker, restart PostgreSQL; nothing is missing."""
    project.ask("traffic", str(RATE // 2), "60")
    for worker in project.containers("worker"):
        run("docker", "restart", "--time", "30", worker.id)
        wait_until(lambda name=worker.name: serves(project, name), f"{worker.name} is healthy again", 120)
    say("the workers were restarted one by one")
    [broker] = project.containers(project.broker)
    run("docker", "kill", "--signal", "KILL", broker.id)
    time.sleep(5)
    run("docker", "start", broker.id)
    say(f"SIGKILL to {project.broker}, started again after 5 s")
    [postgres] = project.containers("postgres")
    run("docker", "restart", postgres.id)
    say("PostgreSQL was restarted")
    project.wait_until_healthy()
    wait_until(lambda: not project.ask("progress")["running"], "the changes end", 120)
    now, found = settled(project)
    say(f"{now['changes']} changes: {found['compared']} objects, none missing, stale or extra")


def serves(project: Project, name: str) -> bool:
    return any(container.serves for container in project.containers() if container.name == name)


def data_outlives_the_containers(project: Project) -> None:
    """Take down all but the portal, change objects, bring everything up: volumes and queue have kept what there was."""
    before = project.ask("difference")["compared"]
    kept = [name for name in project.services() if name != "emulator"]
    project.compose("rm", "--stop", "--force", *kept, timeout_seconds=180)
    expect([one.service for one in project.containers()] == ["emulator"], "all containers but the portal are gone")
    added = project.ask_portal("portal.change('crm_deal', 'add', count=25)")
    project.compose("up", "--detach", "--no-build", "--scale", f"worker={WORKERS}", timeout_seconds=600)
    project.wait_until_healthy()
    _, found = settled(project)
    expect(found["compared"] >= before + len(added), f"{before} objects and {len(added)} new ones, not {found}")
    say(f"taken down and up again: {found['compared']} objects, {len(added)} of them changed meanwhile")


def containers_are_confined(project: Project) -> None:
    """Expect no root, no writable image, no capability, ports on loopback only, secrets in files only."""
    texts = [project.logs()]
    for container in project.containers():
        texts.append(str(container.raw))
        host, name = container.raw["HostConfig"], container.name
        for published in (host["PortBindings"] or {}).values():
            expect([port["HostIp"] for port in published] == ["127.0.0.1"], f"{name} publishes on loopback")
        expect(host["Memory"] > 0 and (host["PidsLimit"] or 0) > 0, f"memory and processes of {name} are limited")
        expect(host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"], f"{name} is confined")
        expect("no-new-privileges:true" in host["SecurityOpt"], f"{name} gains no privileges")
        if container.service in OUR_SERVICES:
            who = run("docker", "exec", container.id, "sh", "-c", "id -u; command -v gcc hatchling || true").split()
            expect(who == ["10001"], f"{name} is an ordinary user without build tools, not {who}")
            cores = run("docker", "exec", container.id, "sh", "-c", "ulimit -c").strip()
            expect(cores == "0", f"{name} leaves no core dump")
    for file in project.secrets.iterdir():
        secret = re.split(r"[ :]", file.read_text("utf-8").strip().partition("@")[0])[-1]
        if not file.name.startswith("."):
            expect(len(secret) > 20, f"{file.name} holds a secret")
            expect(
                not any(secret in text for text in texts),
                f"{file.name} stays out of logs and `docker inspect`",
            )
    say("containers are confined, secrets are in no log and no environment")


REACHES = """
import socket, sys
for name, port in (place.split(":") for place in sys.argv[1:]):
    try:
        socket.create_connection((name, int(port)), 3).close()
        print(name)
    except OSError:
        pass
"""
"""Prints the names that it can connect to."""


def valkey_asks_and_watchers_are_apart(project: Project) -> None:
    """Expect that Valkey serves nobody without its password, and that Flower and exporter reach only what they read."""
    valkey, flower, settle, metrics = (
        project.containers(name)[0] for name in ("valkey", "flower", "settle", "metrics")
    )
    refused = run("docker", "exec", valkey.id, "valkey-cli", "ping").strip()
    expect(refused.startswith("NOAUTH"), f"Valkey asks for a password, not {refused}")
    stores = ["valkey", "rabbitmq"] if project.broker == "rabbitmq" else ["valkey"]
    portal, database = addresses(project, "emulator", 8000), addresses(project, "postgres", 5432)

    def reached(container: Container, *more: str) -> list[str]:
        places = ["valkey:6379", "rabbitmq:5672", "postgres:5432", *more]
        return run("docker", "exec", container.id, "python", "-c", REACHES, *places).split()

    found = reached(flower, *portal, *database)
    expect(found == stores, f"Flower reaches {stores} alone, not {found}")
    found = reached(metrics, *portal)
    expect(found == [*stores, "postgres"], f"the exporter reaches the stores alone, not {found}")
    expect({*stores, "postgres"} <= set(reached(settle)), "a worker reaches all stores")
    say("Valkey asks for its password, Flower and the exporter reach nothing but what they read")


def addresses(project: Project, service: str, port: int) -> list[str]:
    """Return where a service may be found on all its networks."""
    return [
        f"{network['IPAddress']}:{port}"
        for container in project.containers(service)
        for network in container.raw["NetworkSettings"]["Networks"].values()
    ]


def prometheus_watches(project: Project) -> None:
    """Expect that Prometheus has our rules, that the exporter reads all three parts, and that nothing fires."""
    prometheus = Prometheus(project.prometheus_port)
    wait_until(lambda: prometheus.values("b24offline_up") == [1, 1, 1], "store, ledger and broker are read", 90)
    expect(prometheus.rules() >= len(IssueCode), f"our rules are loaded, not {prometheus.rules()}")
    expect(prometheus.values("b24offline_portals") == [1], "one portal is counted")
    expect(not prometheus.alerts(), f"nothing fires: {prometheus.alerts()}")
    say(f"Prometheus scrapes the exporter, has {prometheus.rules()} rules, and none fires")


def flower_shows_and_refuses(project: Project) -> None:
    """Expect that Flower asks for a password, shows tasks, and revokes none."""
    login = (project.secrets / "flower_logins").read_text("utf-8").strip()

    def ask(path: str, *, verb: str = "GET", login: str = login) -> tuple[int, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{project.flower_port}{path}", method=verb)
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""

    expect(ask("/api/tasks", login="admin:guess")[0] == 401, "a wrong password is refused")
    expect(ask("/api/tasks")[0] == 200, "the right password is taken")
    wait_until(lambda: "b24offline.tick" in ask("/api/tasks")[1], "Flower sees tasks", 60)
    wait_until(
        lambda: [*json.loads(ask("/api/workers?status=1")[1] or "{}").values()].count(True) == WORKERS + 1,
        "Flower sees each worker by its own name",  # those before a restart stay listed, as offline
        120,
    )
    expect(ask("/api/task/revoke/some-id?terminate=true", verb="POST")[0] == 403, "Flower revokes nothing")
    say("Flower asks for a password, shows tasks and refuses commands")


def workers_leave_in_time(project: Project) -> None:
    """Expect worker, settle and beat to end after SIGTERM before the engine would kill them."""
    for service in ("worker", "settle", "beat"):
        container = project.containers(service)[0]
        began = time.monotonic()
        run("docker", "stop", "--time", "30", container.id)
        [ended] = [found for found in project.containers(service) if found.id == container.id]
        expect(ended.status == "exited" and ended.exit_code != 137, f"{ended.name} ends by itself: {ended.exit_code}")
        say(f"{container.name} left {time.monotonic() - began:.1f} s after SIGTERM")


VERSIONS = {
    "worker": "python --version; celery --version",
    "valkey": "valkey-server --version",
    "postgres": "postgres --version",
    "rabbitmq": "rabbitmqctl version",
    "prometheus": "prometheus --version",
}


def versions_are_told(project: Project) -> None:
    """Print the version of everything that runs."""
    for service, command in VERSIONS.items():
        for container in project.containers(service)[:1]:
            say(f"{service}: {' '.join(run('docker', 'exec', container.id, 'sh', '-c', command).split())}")


STEPS: tuple[Callable[[Project], None], ...] = (
    versions_are_told,
    changes_survive_the_death_of_workers,
    changes_survive_restarts_of_everything,
    containers_are_confined,
    valkey_asks_and_watchers_are_apart,
    prometheus_watches,
    flower_shows_and_refuses,
    data_outlives_the_containers,
    workers_leave_in_time,
)


def tried(broker: str) -> None:
    """Start the deployment on a broker and go through all steps. Raise `Failed`, `NoEngine`."""
    say(f"broker: {broker}")
    with Project(say, broker=broker) as project:
        say("all containers are healthy")
        for step in STEPS:
            step(project)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        for broker in sys.argv[1:] or BROKERS:
            tried(broker)
        NewFolder().serves_a_portal(say)
    except NoEngine as error:
        say(str(error))
        return 2
    except (Failed, waiting.NotInTime) as error:
        say(f"FAILED: {error}")
        return 1
    say("compose.yaml works: kills, restarts, down and up, on each broker")
    return 0


if __name__ == "__main__":
    sys.exit(main())
