"""Another team's Celery application: its own `tasks`, beat, worker and queue; it imports nothing of b24offline."""

import os

from celery import Celery
from kombu import Exchange, Queue

app = Celery("shop", broker=os.environ["SHOP_BROKER_URL"])
app.conf.update(
    imports=["tasks"],
    task_default_queue="celery",
    task_ignore_result=True,
    worker_send_task_events=True,
    broker_connection_retry_on_startup=True,
    beat_schedule={"stocktake": {"task": "tasks.stocktake", "schedule": 1.0}},
)

B24_EVENTS = Queue("b24offline.events", Exchange(""), routing_key="b24offline.events", no_declare=True)
"""The queue of b24offline's steps, as another application names it: it sends there, and never declares or reads it."""
