"""The Celery application of this deployment."""

from __future__ import annotations

from typing import Any

from celery import signals

from b24offline import log, settings
from b24offline.tasks.application import Application

app = Application("b24offline")
app.config_from_object("b24offline.settings.celeryconfig")


@signals.setup_logging.connect
def _configure_logs(**_: Any) -> None:
    log.configure(settings.config.log_level)


@signals.celeryd_after_setup.connect
def _leave_other_queues(instance: Any, **_: Any) -> None:
    instance.app.amqp.queues.deselect(settings.config.handoff_queues)


@signals.beat_init.connect
@signals.celeryd_init.connect
def _make_data_folder(**_: Any) -> None:
    settings.config.data_dir.mkdir(parents=True, exist_ok=True)
