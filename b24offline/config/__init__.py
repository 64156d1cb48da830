"""The configuration: settings with their rules, lanes, and the waiting times of the protocol."""

from b24offline.config.env import FILE_SUFFIX, Variable, variables
from b24offline.config.fields import AMQP
from b24offline.config.lanes import DEFAULT_LANE, Lane, choose, next_batch_size
from b24offline.config.modules import import_pipelines
from b24offline.config.named_endpoint import named_endpoint
from b24offline.config.record_filter import checked_filter, checked_order
from b24offline.config.rules import refused_endpoint
from b24offline.config.settings import Config
from b24offline.config.timers import Timers
from b24offline.config.validators import is_loopback, masked_url, web_address

__all__ = [
    "AMQP",
    "DEFAULT_LANE",
    "FILE_SUFFIX",
    "Config",
    "Lane",
    "Timers",
    "Variable",
    "checked_filter",
    "checked_order",
    "choose",
    "import_pipelines",
    "is_loopback",
    "masked_url",
    "named_endpoint",
    "next_batch_size",
    "refused_endpoint",
    "variables",
    "web_address",
]
