"""One deployment of compose.yaml with its demo portal, under a project name of its own."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.compose.engine import CHECKOUT, Failed, clean_environ, find_compose, run
from tests.support.ports import free_port
from tests.support.waiting import NotInTime, wait_until

IMAGE = "b24offline:compose-test"
PROMETHEUS_IMAGE = "b24offline:compose-test-prometheus"
PROMETHEUS_FOLDER = """FROM prom/prometheus
USER root
RUN mkdir -p /prometheus && chown nobody /prometheus
USER nobody
"""
"""The official image has that folder; one that stands in for it may lack it."""
USERS = {"postgres:17": "postgres", "rabbitmq:4": "rabbitmq"}
"""Image -> the user that its program runs as."""
WORKERS = 2
ASK_SECONDS = 300
"""Hardly ever needed: on a machine with nothing else to do an answer takes two."""
HOPELESS_RESTARTS = 4
LINE = 600
"""Characters shown of a line of a log."""
DEMO = CHECKOUT / "compose" / "demo.env"
CONTROL = """
import json
from b24offline.emulator import Control
portal = Control("http://127.0.0.1:8000/control/")
print(json.dumps({}))
"""
PROBE = Path(__file__).with_name("probe.py").read_text("utf-8")


@dataclass(frozen=True)
class Container:
    """The state of one container, as the engine reports it."""

    id: str
    service: str
    number: int
    status: str
    health: str
    exit_code: int
    restarts: int
    raw: dict[str, Any]

    @property
    def name(self) -> str:
        """Service and number."""
        return f"{self.service} {self.number}"

    @property
    def serves(self) -> bool:
        """Whether it runs, and is healthy where it has a check."""
        return self.status == "running" and self.health in ("healthy", "")


class Project:
    """Build the image, make secrets and start everything. Remove all of it on exit; show the logs if it failed."""

    def __init__(
        self, say: Callable[[str], None], *, broker: str = "valkey", variables: Mapping[str, str] | None = None
    ) -> None:
        self._say = say
        self.broker = broker
        self._compose = find_compose()
        self._folder = tempfile.TemporaryDirectory(prefix="b24offline-compose-")
        self.secrets = Path(self._folder.name) / "secrets"
        self.name = f"b24offline-{secrets.token_hex(4)}"
        self.flower_port, self.prometheus_port = free_port(), free_port()
        # Where a user sets it: the file that Compose reads and that the containers get.
        self._variables = Path(self._folder.name) / "demo.env"
        self._variables.write_text(DEMO.read_text("utf-8") + self._own(variables or {}), "utf-8")
        self._environ = clean_environ(
            {
                "B24OFFLINE_ENV": str(self._variables),
                "B24OFFLINE_IMAGE": IMAGE,
                "B24OFFLINE_SECRETS": str(self.secrets),
                "COMPOSE_PROFILES": "flower,monitoring" + (",rabbitmq" if broker == "rabbitmq" else ""),
                "PROMETHEUS_IMAGE": PROMETHEUS_IMAGE,
                **{
                    f"{user.upper()}_UID": run("docker", "run", "--rm", "--entrypoint", "id", image, "-u", user).strip()
                    for image, user in USERS.items()
                },
            }
        )

    def _own(self, more: Mapping[str, str]) -> str:
        given = {"FLOWER_PORT": self.flower_port, "PROMETHEUS_PORT": self.prometheus_port, **more}
        return "".join(f"{name}={value}\n" for name, value in given.items())

    def _build(self) -> None:
        self._say("building the image")
        run("docker", "build", "--network", "host", "--tag", IMAGE, ".", timeout_seconds=1200)
        run("docker", "build", "--tag", PROMETHEUS_IMAGE, "-", stdin=PROMETHEUS_FOLDER)

    def __enter__(self) -> Self:
        try:
            self._build()
            chosen = ("--rabbitmq",) if self.broker == "rabbitmq" else ()
            run(str(CHECKOUT / "compose" / "make-secrets"), "--demo", *chosen, str(self.secrets))
            self._say(f"starting the containers of {self.name}")
            self.compose("up", "--detach", "--no-build", "--scale", f"worker={WORKERS}", timeout_seconds=600)
            self.wait_until_healthy()
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None:
                self._say("it failed; the ends of the logs:")
                self._say("\n".join(line[:LINE] for line in self.logs(lines=40).splitlines()))
        finally:
            self._say("taking everything away")
            self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5", timeout_seconds=300)
            self._folder.cleanup()
        if left := self._left():
            raise Failed(f"left behind: {left}")

    def compose(self, *arguments: str, timeout_seconds: float = 120, check: bool = True) -> str:
        """Run a Compose command as the documentation says it for the demo."""
        return run(
            *(*self._compose, "-p", self.name, "--env-file", str(self._variables), *arguments),
            environ=self._environ,
            timeout_seconds=timeout_seconds,
            check=check,
        )

    def services(self) -> list[str]:
        """Return the services that this deployment has."""
        return self.compose("config", "--services").split()

    def containers(self, service: str | None = None) -> list[Container]:
        """Return all containers, stopped ones too, by service and number."""
        label = f"label=com.docker.compose.project={self.name}"
        ids = run("docker", "ps", "--all", "--quiet", "--filter", label).split()
        found = [_container(raw) for raw in json.loads(run("docker", "inspect", *ids))] if ids else []
        chosen = [container for container in found if service in (None, container.service)]
        return sorted(chosen, key=lambda container: (container.service, container.number))

    def wait_until_healthy(self, seconds: float = 300) -> None:
        """Wait until every container runs and is healthy. Raise `Failed`."""

        def all_serve() -> bool:
            found = self.containers()
            if any(container.restarts >= HOPELESS_RESTARTS for container in found):
                raise Failed("a container does not come up")
            return bool(found) and all(container.serves for container in found)

        try:
            wait_until(all_serve, "all containers are healthy", seconds, pause_seconds=1)
        except NotInTime as error:
            states = ", ".join(f"{found.name} {found.status} {found.health}" for found in self.containers())
            raise Failed(f"{error}: {states}") from None

    def ask(self, *command: str, service: str = "settle") -> Any:
        """Return the probe's reply from inside a container that reaches portal, ledger and database."""
        container = self.containers(service)[0]
        inside = ("docker", "exec", "-i", container.id, "python", "-", *command)
        return json.loads(run(*inside, stdin=PROBE, timeout_seconds=ASK_SECONDS))

    def ask_portal(self, expression: str) -> Any:
        """Return what a Python expression says about ``portal``, the control of the emulator; nothing else need run."""
        [emulator] = self.containers("emulator")
        return json.loads(run("docker", "exec", emulator.id, "python", "-c", CONTROL.format(expression)))

    def ask_and_leave(self, *command: str) -> None:
        """Start a probe command and do not wait for it. It ends with the settle container at the latest."""
        [settle] = self.containers("settle")
        run("docker", "exec", "--detach", settle.id, "python", "-c", PROBE, *command)

    def logs(self, lines: int | None = None) -> str:
        """Return the output of all containers."""
        found: list[str] = []
        tail = ("--tail", str(lines)) if lines else ()
        for container in self.containers():
            state = f"{container.status}, exit code {container.exit_code}, {container.restarts} restarts"
            found.append(f"--- {container.name}: {state}")
            found.append(run("sh", "-c", 'exec docker logs "$@" 2>&1', "logs", *tail, container.id, check=False))
        return "\n".join(found)

    def _left(self) -> str:
        label = f"label=com.docker.compose.project={self.name}"
        kinds = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
        return " ".join(run("docker", *kind, "--quiet", "--filter", label).strip() for kind in kinds).strip()


def _container(raw: dict[str, Any]) -> Container:
    labels, state = raw["Config"]["Labels"], raw["State"]
    return Container(
        id=raw["Id"],
        service=labels["com.docker.compose.service"],
        number=int(labels["com.docker.compose.container-number"]),
        status=state["Status"],
        health=state.get("Health", {}).get("Status", ""),
        exit_code=int(state["ExitCode"]),
        restarts=int(raw["RestartCount"]),
        raw=raw,
    )
