"""Errors go to Sentry with their place, without a customer's data. `SENTRY_DSN` says where to.

The first import of your pipelines: then it is set up in each process of a worker.
"""

import sentry_sdk
from celery import current_task
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.integrations.logging import ignore_logger

ignore_logger("b24offline.tasks.failure_log")  # the same error comes from Celery, with its traceback


def with_run(event, hint):
    """Say which portal, event and object the error is about: ids only."""
    if current_task and current_task.request.argsrepr:
        event.setdefault("contexts", {})["b24offline"] = {"run": current_task.request.argsrepr}
    return event


sentry_sdk.init(
    include_local_variables=False,  # a step's variables are what it works on
    send_default_pii=False,
    max_request_body_size="never",
    integrations=[CeleryIntegration()],
    before_send=with_run,
)
