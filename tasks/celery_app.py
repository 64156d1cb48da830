"""The Celery application of this deployment."""

from __future__ import annotations

from typing import Any

from celery import signals

from b24offline import log, settings
from b24offline.config import Config
from b24offline.ledger import LedgerSchemaMismatch
from b24offline.runtime import Runtime
from b24offline.tasks.application import Application

app = Application("b24offline")
app.config_from_object("b24offline.settings.celeryconfig")


@signals.setup_logging.connect
def _configure_logs(**_: Any) -> None:
    log.configure(settings.config.log_level)


@signals.celeryd_after_setup.connect
def _leave_other_queues(instance: Any, **_: Any) -> None:
    instance.app.amqp.queues.deselect(settings.config.external_queues)


@signals.beat_init.connect
@signals.celeryd_init.connect
def _prepare(**_: Any) -> None:
    settings.config.data_dir.mkdir(parents=True, exist_ok=True)
    refuse_other_ledger(settings.config)


def refuse_other_ledger(config: Config) -> None:
    """End the process with a sentence where another version keeps the ledger."""
    runtime = Runtime(config)  # not the process's own: a worker forks
    try:
        runtime.check_ledger_schema_if_reachable()
    except LedgerSchemaMismatch as error:
        raise SystemExit(f"b24offline cannot start.\n{error}") from None
    finally:
        runtime.close()
