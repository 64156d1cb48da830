"""The Celery application of this deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celery import signals

import settings
from b24offline import log
from tasks.application import Application


def _same_folder(*files: str | None) -> None:
    """Refuses a mix of two projects: both names are common, and the host may have packages of its own so called."""
    folders = {str(Path(file).resolve().parent.parent) for file in files if file}
    if len(folders) != 1:
        raise SystemExit(
            f"b24offline cannot start: the packages tasks and settings come from {' and '.join(sorted(folders))}. "
            "Start it from its own folder, with no other project on PYTHONPATH."
        )


_same_folder(__file__, settings.__file__)

app = Application("b24offline")
app.config_from_object("settings.celeryconfig")


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
