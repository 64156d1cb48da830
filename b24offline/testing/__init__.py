"""Test your pipelines: `run_pipeline` in this process, and a whole deployment beside an emulated portal.

The fixtures `b24_portal` and `b24_deployment` come with the wheel as a plugin of pytest: see docs/testing.md.
"""

from b24offline.testing.deployment import Deployment, NotInTime
from b24offline.testing.emulated import EmulatedPortal
from b24offline.testing.events import event
from b24offline.testing.portal import PortalCall, in_turn, refused
from b24offline.testing.run import Ran, run_pipeline

__all__ = [
    "Deployment",
    "EmulatedPortal",
    "NotInTime",
    "PortalCall",
    "Ran",
    "event",
    "in_turn",
    "refused",
    "run_pipeline",
]
