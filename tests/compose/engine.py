"""The commands of the container engine of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
OURS = ("B24_", "B24OFFLINE_", "CELERY_", "COMPOSE_", "FLOWER_", "WORKER_", "VALKEY_", "POSTGRES_", "PROMETHEUS_")


class NoEngine(Exception):
    """There is no Docker engine or no Compose here; the text says what to do."""


class Failed(Exception):
    """A command or an expectation failed; the text says which."""


def run(
    *command: str,
    stdin: str | None = None,
    environ: Mapping[str, str] | None = None,
    timeout_seconds: float = 120,
    check: bool = True,
) -> str:
    """Return the output of a command, standard output only. Raise `Failed` with both outputs."""
    try:
        done = subprocess.run(
            command,
            input=stdin,
            env=dict(environ) if environ is not None else None,
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(command[:6])}: no end within {timeout_seconds:g} s") from None
    if check and done.returncode != 0:
        raise Failed(
            f"{' '.join(command[:6])} ended with {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
    return done.stdout


def clean_environ(values: Mapping[str, str]) -> dict[str, str]:
    """This environment without variables that would change the deployment, and with these."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith(OURS)}, **values}


def find_compose() -> Sequence[str]:
    """Return the command of Compose. Raise `NoEngine` where it, or an engine, is missing."""
    if shutil.which("docker") is None:
        raise NoEngine("There is no `docker` command. Install Docker with Compose; nothing was tested.")
    try:
        run("docker", "info", "--format", "{{.ServerVersion}}", timeout_seconds=30)
    except Failed as error:
        raise NoEngine(f"No Docker engine answers; start one. Nothing was tested.\n{error}") from None
    for command in (("docker", "compose"), ("docker-compose",)):
        if shutil.which(command[0]):
            try:
                run(*command, "version", timeout_seconds=30)
            except Failed:
                continue
            return command
    raise NoEngine("Neither `docker compose` nor `docker-compose` works. Install Compose; nothing was tested.")
