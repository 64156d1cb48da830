"""Celery's settings, each with the reason where it differs from Celery's default."""

from __future__ import annotations

import socket
from typing import Any, Final

from kombu import Exchange, Queue

from b24offline import contract
from b24offline.settings import config, schedule
from b24offline.settings.broker_tls import broker_tls

_REDIS_BROKER = config.broker_url.startswith(("redis://", "rediss://", "unix://", "valkey", "sentinel://"))

_KEEPALIVE: dict[int, int] = {
    getattr(socket, name): value
    for name, value in {
        "TCP_KEEPIDLE": 30,
        "TCP_KEEPINTVL": 10,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": 60_000,  # milliseconds, for what was sent and never confirmed
    }.items()
    if hasattr(socket, name)  # not every system has all of them
}
RABBITMQ_OPTIONS: Final = {
    "confirm_publish": True,  # a message counts as sent when the broker has it
    # A RabbitMQ that answers nothing, as one with too little memory or with a channel that hangs, would hold a process,
    # or beat, for ever. In seconds; after it the connection is made anew, and the message is sent again.
    "read_timeout": 30,
    "write_timeout": 30,
}

broker_url = config.broker_url
broker_use_ssl = broker_tls(config)
broker_connection_retry_on_startup = True  # processes start in any order, the broker last if need be
broker_connection_max_retries = None  # a broker that is away for an hour is waited for
broker_transport_options: dict[str, Any] = (
    {
        # Own keys: on a shared broker the shortest visibility timeout of all stacks would win otherwise.
        "unacked_key": "b24offline.unacked",
        "unacked_index_key": "b24offline.unacked_index",
        "unacked_mutex_key": "b24offline.unacked_mutex",
        # Longer than any message of ours stays in a worker (360 s, waits of 60 s): none is delivered twice for that.
        "visibility_timeout": 3600,
        # A connection that a firewall forgot, or whose server is gone without a word, is noticed within a minute; by
        # the kernel's own limits a worker would wait for messages there for two hours.
        "socket_keepalive": True,
        "socket_keepalive_options": _KEEPALIVE,
        "socket_connect_timeout": 5,
        "health_check_interval": 30,
    }
    if _REDIS_BROKER
    else RABBITMQ_OPTIONS
)
if config.broker_url.startswith("sentinel://"):
    _password = config.sentinel_password.get_secret_value() if config.sentinel_password else None
    broker_transport_options |= {
        "master_name": config.broker_primary,
        "sentinel_kwargs": {"socket_connect_timeout": 2, "socket_timeout": 5, "password": _password},
    }
control_exchange = "b24offline"  # our remote control does not reach the host's workers, nor theirs ours

result_backend = None  # the ledger counts outcomes; results would cost 40 % and hold customers' data
task_ignore_result = True
task_serializer = result_serializer = event_serializer = "json"
accept_content = ["json"]  # whoever can write to the broker must not run code here
worker_consumer = "b24offline.tasks.consumer:CarefulConsumer"  # nor end workers, nor send to others through them
worker_enable_remote_control = config.remote_control  # whoever can write to the broker can shut workers down by it


def _queue(name: str) -> Queue:
    if config.quorum_queues:
        # A topic exchange, because only through one can the broker itself keep a message that has to wait.
        exchange = Exchange(contract.EXCHANGE, type="topic")
        return Queue(name, exchange, routing_key=name, queue_arguments={"x-queue-type": "quorum"})
    # With an exchange of its name: what any other stack declares when it sends to a queue by name.
    return Queue(name, Exchange(name), routing_key=name)


_ours = dict.fromkeys((*contract.QUEUES, *(lane.queue for lane in config.lanes)))
task_queues = tuple(map(_queue, _ours)) + tuple(
    Queue(name, Exchange(""), routing_key=name, no_declare=True) for name in config.external_queues
)
task_default_queue = contract.QUEUE_EVENTS
task_default_exchange = contract.EXCHANGE if config.quorum_queues else contract.QUEUE_EVENTS
task_default_exchange_type = "topic" if config.quorum_queues else "direct"
task_default_routing_key = contract.QUEUE_EVENTS
worker_detect_quorum_queues = True  # a quorum queue refuses a prefetch count for the whole channel
# The queues in which messages wait are shared by all stacks of a virtual host: they must be of the type all declare.
broker_native_delayed_delivery_queue_type = "quorum"
task_create_missing_queues = False  # a mistyped queue is an error, not a queue that nobody reads
task_routes = {
    contract.TASK_TICK: {"queue": contract.QUEUE_POLL},
    contract.TASK_BIND: {"queue": contract.QUEUE_POLL},
    contract.TASK_POLL: {"queue": contract.QUEUE_POLL},
    contract.TASK_SWEEP: {"queue": contract.QUEUE_POLL},
    contract.TASK_ADOPT: {"queue": contract.QUEUE_POLL},
    contract.TASK_REDRIVE: {"queue": contract.QUEUE_POLL},
    contract.TASK_RECONCILE: {"queue": contract.QUEUE_POLL},
    contract.TASK_INJECT: {"queue": contract.QUEUE_POLL},
    contract.TASK_SETTLE: {"queue": contract.QUEUE_SETTLE},
    contract.TASK_SUCCEEDED: {"queue": contract.QUEUE_SETTLE},
    contract.TASK_FAILED: {"queue": contract.QUEUE_SETTLE},
}

task_acks_late = False  # ledger and sweep redeliver; a redelivery cannot be told from a duplicate anyway
worker_prefetch_multiplier = 1  # what one worker keeps for later, an idle one does not get
task_send_sent_event = False  # a message for each message; a worker that sends events (-E) sends these, too
task_soft_time_limit = 300  # a step that hangs fails instead of renewing its lease for ever
task_time_limit = 360  # and one that does not even listen to that is killed: a crash
worker_soft_shutdown_timeout = 10.0  # what ends within it is not repeated after a deploy; SIGQUIT, see REMAP_SIGTERM
worker_cancel_long_running_tasks_on_connection_loss = False  # acknowledged already: cancelled, it would be a crash
worker_hijack_root_logger = False  # tasks/celery_app.py sets the logs up
worker_proc_alive_timeout = 60.0  # children import pipelines, slowly on a busy machine: the default of 4 s kills them

imports = config.pipelines
include = (
    "b24offline.tasks.poll",
    "b24offline.tasks.bind",
    "b24offline.tasks.dispatch",
    "b24offline.tasks.outcome",
    "b24offline.tasks.settle",
    "b24offline.tasks.sweep",
    "b24offline.tasks.redrive",
    "b24offline.tasks.reconcile",
    "b24offline.tasks.objects",
    "b24offline.tasks.mirror",
    "b24offline.tasks.heartbeat",
    "b24offline.tasks.store_watch",
    "b24offline.tasks.broker_queues",
)
beat_schedule = schedule.beat_schedule
beat_scheduler = "b24offline.tasks.beat:SteadyScheduler"  # one that a clock which is set back does not stop
beat_schedule_filename = str(config.data_dir / "celerybeat-schedule")
beat_max_loop_interval = 1.0  # how soon it notices that the clock was set
timezone = "UTC"
