"""The Celery application of this deployment."""

from __future__ import annotations

import logging
import math
import re
import resource
import time
from collections.abc import Container, Mapping, MutableMapping
from datetime import datetime
from typing import Any, Final

import click
from celery import Celery, signals
from celery.utils.time import maybe_make_aware
from click.core import ParameterSource
from kombu.transport.native_delayed_delivery import MAX_LEVEL, level_name

from b24offline import log, settings
from b24offline.config import Config, import_pipelines
from b24offline.errors import ConfigError, StoreError
from b24offline.runtime import Runtime
from b24offline.tasks import redis_transport

_OURS: Final = "b24offline."
_FIRST_DELAY: Final = level_name(MAX_LEVEL)
"""The exchange for messages that have to wait."""
_DELAY: Final = re.compile(r"^(?:[01]\.)+(?=[^.])")


class Application(Celery):
    """Celery that lets RabbitMQ itself keep the messages that have to wait, where queues are quorum queues.

    A quorum queue counts a waiting message against its consumer's prefetch: a few retries, and the worker reads nothing
    else until they are due. Celery hands such messages to the broker's delayed delivery; its gaps are closed here.
    """

    amqp_cls = "b24offline.tasks.external_queues:QueueAddresses"

    def send_task(self, name: str, *args: Any, **options: Any) -> Any:
        """Send a task; prepare ``countdown`` and ``eta`` for the broker's delayed delivery."""
        if settings.config.quorum_queues:
            options = delayed_by_broker(options, self.now(), self.amqp.queues)
        return super().send_task(name, *args, **options)


def delayed_by_broker(options: Mapping[str, Any], now: datetime, queues: Container[str]) -> dict[str, Any]:
    """Return the options of a message, so that the broker can delay it.

    The wait is rounded up to whole seconds: Celery would round it down, and refuse 0. A retry names the exchange that
    it came through instead of its queue, and Celery would send it to the default queue.

    Args:
        options: as `Task.apply_async` takes them; ``eta`` as a datetime or in ISO format.
        now: aware.
        queues: names of the queues that the application knows.
    """
    prepared = dict(options)
    wait, eta = prepared.pop("countdown", None), prepared.pop("eta", None)
    if eta is not None:
        moment = datetime.fromisoformat(eta) if isinstance(eta, str) else eta
        wait = (maybe_make_aware(moment) - now).total_seconds()
    if wait is None or wait <= 0:
        return prepared
    prepared["countdown"] = math.ceil(wait)
    queue = queue_of_address(prepared.get("routing_key"))
    if not prepared.get("queue") and queue in queues:
        prepared = {key: value for key, value in prepared.items() if key not in {"exchange", "routing_key"}}
        prepared["queue"] = queue
    return prepared


def queue_of_address(routing_key: str | None) -> str:
    """Return the queue that a message went to by its routing key, which has the levels of the delay before it."""
    return _DELAY.sub("", routing_key or "")


redis_transport.use()
app = Application("b24offline")
app.config_from_object("b24offline.settings.celeryconfig")


@signals.setup_logging.connect
def _configure_logs(loglevel: int | None = None, logfile: str | None = None, **_: Any) -> None:
    level: str = settings.config.log_level
    if loglevel and _was_asked_for("loglevel"):
        level = logging.getLevelName(loglevel)
    log.configure(level, file=logfile, log_format=settings.config.log_format)


def _was_asked_for(option: str) -> bool:
    """Return whether an option of Celery's command line was given: its default for the level is WARNING."""
    context = click.get_current_context(silent=True)
    return context is not None and context.get_parameter_source(option) not in {None, ParameterSource.DEFAULT}


@signals.import_modules.connect
def _import_pipelines(**_: Any) -> None:
    """Import the pipelines before Celery does, which would show a mistake in one as a traceback of its own."""
    try:
        import_pipelines(settings.config.pipelines)
    except ConfigError as error:
        raise SystemExit(f"b24offline cannot start.\n{error}") from None


@signals.celeryd_after_setup.connect
def _leave_other_queues(instance: Any, **_: Any) -> None:
    instance.app.amqp.queues.deselect(settings.config.external_queues)


@signals.celeryd_after_setup.connect
def _tell_flower_what_waits(instance: Any, **_: Any) -> None:
    # Without -E nobody listens, and the events would be a seventh of what a worker sends.
    instance.app.conf.task_send_sent_event = bool(instance.task_events)


@signals.beat_init.connect
@signals.celeryd_init.connect
def _prepare(**_: Any) -> None:
    # A core dump would hold tokens and passwords.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    settings.config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    refuse_other_ledger(settings.config)


@signals.before_task_publish.connect
def _note_time(sender: str, properties: MutableMapping[str, Any], **_: Any) -> None:
    # By it the metrics tell how long the first message of a queue has been waiting.
    if sender.startswith(_OURS):
        properties["timestamp"] = int(time.time())


def refuse_other_ledger(config: Config) -> None:
    """End the process with a sentence where another version wrote the ledger."""
    runtime = Runtime(config)  # not the process's own, which must not cross the worker's fork
    try:
        runtime.check_ledger_schema_if_reachable()
    except (ConfigError, StoreError) as error:
        raise SystemExit(f"b24offline cannot start.\n{error}") from None
    finally:
        runtime.close()


@signals.before_task_publish.connect
def _drop_eta(headers: MutableMapping[str, Any], exchange: Any = None, **_: Any) -> None:
    # The message arrives when it is due. A worker with a slow clock would keep it waiting, and a prefetch slot with it.
    if getattr(exchange, "name", exchange) == _FIRST_DELAY:
        headers["eta"] = None
