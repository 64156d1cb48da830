"""The protocol: poll, dispatch, run, settle, redrive."""

from b24offline.delivery.broker_gate import BrokerGate, BrokerLoad
from b24offline.delivery.chunks import (
    EventFailed,
    Failed,
    Ready,
    SomeFailed,
    WrongAnswer,
    apart,
    chunks,
    come_again,
    ends,
    failures_in,
    waits_as_one,
)
from b24offline.delivery.connecting import add_portal, renew_portal
from b24offline.delivery.dead_letters import DeadLetterQueue, run_of_dead_letter
from b24offline.delivery.object_reader import NotReadable, read_object
from b24offline.delivery.poller import Poller
from b24offline.delivery.portal_context import PortalContext, Shared
from b24offline.delivery.portal_lifecycle import PortalLifecycle
from b24offline.delivery.portal_rounds import PortalRounds
from b24offline.delivery.retry_policy import Exhaust, Fail, Permanent, RetryIn, Verdict, uncounted_wait_seconds
from b24offline.delivery.services import TROUBLE_OF_ONE_PORTAL, PortalServices
from b24offline.delivery.settlement import SettlePlan, SettleView
from b24offline.delivery.settler import Settler
from b24offline.delivery.subscriber import SubscriptionPlan, subscription_plan

__all__ = [
    "TROUBLE_OF_ONE_PORTAL",
    "BrokerGate",
    "BrokerLoad",
    "DeadLetterQueue",
    "EventFailed",
    "Exhaust",
    "Fail",
    "Failed",
    "NotReadable",
    "Permanent",
    "Poller",
    "PortalContext",
    "PortalLifecycle",
    "PortalRounds",
    "PortalServices",
    "Ready",
    "RetryIn",
    "SettlePlan",
    "SettleView",
    "Settler",
    "Shared",
    "SomeFailed",
    "SubscriptionPlan",
    "Verdict",
    "WrongAnswer",
    "add_portal",
    "apart",
    "chunks",
    "come_again",
    "ends",
    "failures_in",
    "read_object",
    "renew_portal",
    "run_of_dead_letter",
    "subscription_plan",
    "uncounted_wait_seconds",
    "waits_as_one",
]
