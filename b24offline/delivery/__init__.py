from b24offline.delivery.dead_letters import Parking, run_of_letter
from b24offline.delivery.object_reader import NotReadable
from b24offline.delivery.portal_lifecycle import PortalLifecycle
from b24offline.delivery.retry_policy import Permanent, uncounted_wait_seconds
from b24offline.delivery.services import TROUBLE_OF_ONE_PORTAL, PortalKit, Shared, build_kit
from b24offline.delivery.settlement import SettlePlan, SettleView
from b24offline.delivery.settler import Settler

__all__ = [
    "TROUBLE_OF_ONE_PORTAL",
    "NotReadable",
    "Parking",
    "Permanent",
    "PortalKit",
    "PortalLifecycle",
    "SettlePlan",
    "SettleView",
    "Settler",
    "Shared",
    "build_kit",
    "run_of_letter",
    "uncounted_wait_seconds",
]
