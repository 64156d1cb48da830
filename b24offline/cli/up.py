"""`b24offline up`: everything a deployment on one machine needs, under one supervisor.

It starts an embedded Valkey where no Redis is configured, beat, one worker for polls and steps, one for settling, the
receiver of signals where B24_PUSH_URL is set, and Flower where it is installed. Modules of pipelines are found in the
folder it is run in.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import secrets
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO, cast

import click
from redis.exceptions import RedisError

from b24offline import log
from b24offline.config import Config, variables
from b24offline.contract import QUEUE_EVENTS, QUEUE_POLL, QUEUE_SETTLE
from b24offline.errors import ConfigError
from b24offline.private_files import kept_text
from b24offline.runtime import Runtime
from b24offline.supervisor import (
    HUNG_SECONDS,
    Program,
    SingleStart,
    Supervisor,
    embedded_valkey,
    needs_embedded_valkey,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from b24offline.supervisor import EmbeddedValkey

_log = logging.getLogger(__name__)

SETTLING_PROCESSES: Final = 2
"""Settling is light, but it waits for the portal: with one process one slow portal would delay all others."""
_NAME_WIDTH: Final = 6
_BEATING: Final = ("beat", "work", "settle")
_WITHOUT_PORTALS: Final = ("beat", "flower")
_LOGIN_FILE: Final = "flower.login"
_FLOWER_LOGINS: Final = {"FLOWER_BASIC_AUTH", "FLOWER_AUTH", "FLOWER_CONF"}
"""Whoever sets one of these says himself who may look."""
_LEAST_HUNG_SECONDS: Final = 30.0
"""However short the timers are, a process must have time to start."""
_HUNG_TICKS: Final = 10
_ROUTINE: Final = re.compile(
    r" INFO +celery\.(?:beat|worker\.strategy|app\.trace) \| .*\bb24offline[.-](?:tick|sweep)\b"
)
"""Beat's entries come every second; they are shown with B24_LOG_LEVEL=DEBUG only."""
_BANNER: Final = re.compile(
    r"^[\s.|*/\\-]*$|SecurityWarning|superuser privileges|absolutely not recommended|--uid option"
    r"|User information: uid=|_warn_or_raise_security_error|Hitting Ctrl\+C again"
    r"|Inspect method \w+ failed|Memory overcommit must be enabled"
)
"""What Celery prints for a worker that was started by hand; what Flower says before the first worker is there, and
Valkey of a machine that is not a server."""

_HOW_TO_ADD: Final = (
    "No portal is configured yet. Connect one; no restart is needed:\n  b24offline auth NAME.bitrix24.com"
)


@click.command()
def up() -> None:
    """Run everything on this machine until Ctrl-C or SIGTERM.

    Starts beat, the workers, an embedded Valkey unless B24_REDIS_URL is set, the receiver of signals if B24_PUSH_URL is
    set, and Flower if it is installed. A process that dies or hangs is restarted. Ctrl-C stops everything within 15
    seconds.
    """
    config = Config.load()
    log.configure(config.log_level, stream=cast("TextIO", Prefixed("up")))
    with SingleStart(config.data_dir) as start:
        valkey = embedded_valkey(config) if needs_embedded_valkey(config) else None
        served = _prepare(config)
        environ = _environ(config, valkey)
        flower = config.flower_port if importlib.util.find_spec("flower") else 0
        program = partial(Program, folder=Path.cwd(), descriptors=(start.members,))
        first = program("valkey", (*valkey.command, "--loglevel", "warning"), environ={}) if valkey else None
        _show_addresses(config, valkey, flower, served)
        Supervisor(
            [
                _watched(config, program(name, command, environ=_environ_of(name, config, environ)))
                for name, command in commands(config, flower)
            ],
            say=partial(say, everything=config.log_level == "DEBUG"),
            first=first,
            ready=partial(_ready, config, valkey) if valkey else lambda _pid: True,
            hung_seconds=hung_seconds(config),
        ).run()


def commands(config: Config, flower_port: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield name and command of everything but Valkey; ``flower_port`` 0 leaves Flower out."""
    celery = (sys.executable, "-m", "celery", "-A", "b24offline", "-q")
    worker = (*celery, "worker", "--without-mingle", "--without-gossip", *(("-E",) if flower_port else ()))
    queues = dict.fromkeys((QUEUE_POLL, QUEUE_EVENTS, *(lane.queue for lane in config.all_lanes.values())))
    # Without a pid file: that of a killed beat could name another process.
    yield "beat", (*celery, "beat", "--pidfile=")
    yield "work", (*worker, "-n", "work@%h", "-c", str(config.concurrency), "-Q", ",".join(queues))
    yield "settle", (*worker, "-n", "settle@%h", "-c", str(SETTLING_PROCESSES), "-Q", QUEUE_SETTLE)
    if config.push_url:
        yield "push", (sys.executable, "-m", "b24offline", "push")
    if flower_port:
        address = ("--address=127.0.0.1", f"--port={flower_port}", "--max_tasks=5000")
        yield "flower", (*celery, "flower", *address)


def hung_seconds(config: Config) -> float:
    """Return for how long beat or a worker may be silent while others are heard; beat is heard with each tick."""
    return max(HUNG_SECONDS * config.time_scale, _LEAST_HUNG_SECONDS, _HUNG_TICKS * config.tick_seconds)


def say(name: str, line: str, *, everything: bool = True) -> None:
    """Print one line of a process; without ``everything`` leave routine lines out."""
    if not everything and (_ROUTINE.search(line) or _BANNER.search(line)):
        return
    encoding = sys.stdout.encoding or "utf-8"
    try:
        # A character that the terminal cannot show is escaped: it must not end the deployment.
        sys.stdout.write(f"{name:<{_NAME_WIDTH}} | {line}\n".encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the log has gone, such as a closed terminal: end as on a hangup, without a word.
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for the rest of the process
        os.kill(os.getpid(), signal.SIGHUP)
    except OSError:
        pass  # a full disk costs lines of the log, not the deployment


class Prefixed:
    """A stream that prints each line under a name; the supervisor logs through it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def write(self, text: str) -> int:
        """Take whole lines, as a log handler writes them."""
        for line in text.splitlines():
            say(self._name, line)
        return len(text)

    def flush(self) -> None:
        """Do nothing: no text is buffered."""


def _prepare(config: Config) -> list[str]:
    """Upgrade the database and bring in the configured portal, before processes race for it. Return the portals."""
    runtime = Runtime(config)
    try:
        runtime.ensure_configured_portal()
        if not needs_embedded_valkey(config):
            try:
                runtime.redis.ping()
                runtime.check_ledger_schema()
            except RedisError as error:
                why = f"The ledger cannot be reached ({type(error).__name__}), and everything waits for it."
                say("up", f"{why} Check Redis and B24_REDIS_URL.")
        store = runtime.store
        return [f"{name} ({store.portals.get_without_secret(name).desired_state})" for name in store.portals.names()]
    finally:
        runtime.close()


def _ready(config: Config, valkey: EmbeddedValkey, pid: int) -> bool:
    """Return whether the embedded Valkey serves. Raise LedgerSchemaMismatch where another version keeps the ledger."""
    if not valkey.served_by(pid):
        return False
    runtime = Runtime(config.model_copy(update={"redis_url": valkey.url}))
    try:
        runtime.check_ledger_schema()
    finally:
        runtime.close()
    return True


def _environ(config: Config, valkey: EmbeddedValkey | None) -> Mapping[str, str]:
    """Return the environment of the processes: ours, with what must not depend on the folder they run in."""
    return {
        **os.environ,
        "B24_DATA_DIR": str(config.data_dir.resolve()),
        **({"B24_REDIS_URL": valkey.url} if valkey else {}),
        # SIGTERM lets a worker finish for a few seconds, and no longer than that.
        "REMAP_SIGTERM": "SIGQUIT",
        "PYTHONUNBUFFERED": "1",
    }


def _environ_of(name: str, config: Config, environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment of one program. Beat and Flower talk to the broker only: they know of no portal."""
    if name not in _WITHOUT_PORTALS:
        return environ
    secret = {each.name for each in variables(Config) if each.secret} - {"B24_REDIS_URL", "CELERY_BROKER_URL"}
    hidden = secret | {f"{variable}_FILE" for variable in secret}
    left = {variable: value for variable, value in environ.items() if variable not in hidden}
    login = {} if name == "beat" or _FLOWER_LOGINS & environ.keys() else {"FLOWER_BASIC_AUTH": _flower_login(config)}
    return {**left, **login, "B24_PORTAL_URL": "", "B24_CA_FILE": ""}


def _flower_login(config: Config) -> str:
    """Return ``name:password``, kept in a file that only its owner reads. By the environment: `ps` shows arguments."""
    path = config.data_dir.resolve() / _LOGIN_FILE
    try:
        return kept_text(path, lambda: f"admin:{secrets.token_urlsafe(18)}")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(
            f"The file of Flower's login, {path}, cannot be used ({why}). Delete it to get a new login."
        ) from None


def _watched(config: Config, program: Program) -> Program:
    """Return the program with a heartbeat file of its own, unless B24_HEARTBEAT_FILE names one for all."""
    if program.name not in _BEATING or config.heartbeat_file:
        return program
    file = config.data_dir.resolve() / "heartbeats" / program.name
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        file.touch()
    except OSError as error:  # such as a full disk: the process could not touch it either, and would seem to hang
        raise ConfigError(f"{file}, below B24_DATA_DIR, cannot be written: {error.strerror}.") from None
    return replace(program, heartbeat_file=file, environ={**program.environ, "B24_HEARTBEAT_FILE": str(file)})


def _show_addresses(config: Config, valkey: EmbeddedValkey | None, flower_port: int, served: list[str]) -> None:
    """Print what runs where."""
    data = config.data_dir.resolve()
    if valkey:
        say("up", f"Ledger: an embedded Valkey at 127.0.0.1:{valkey.port}; data and password are in {data}/valkey.")
    if flower_port:
        login = "" if _FLOWER_LOGINS & os.environ.keys() else f", login (name:password) in {data}/{_LOGIN_FILE}"
        say("up", f"Flower: http://127.0.0.1:{flower_port}{login}")
    elif config.flower_port:
        say("up", "Flower is not installed; pip install flower, or set B24_FLOWER_PORT=0 to hide this line.")
    if config.push_url:
        say("up", f"Signals: {config.push_url} leads to {config.push_listen}")
    for line in [f"Portals: {', '.join(served)}"] if served else _HOW_TO_ADD.splitlines():
        say("up", line)
