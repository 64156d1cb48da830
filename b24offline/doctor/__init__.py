"""Whether a deployment can work: each thing that it needs, how it is, and what to do about it."""

from b24offline.doctor.check import Check, CheckState, failed
from b24offline.doctor.examine import Extent, examine
from b24offline.doctor.portal_checks import needed_scopes, portal_checks

__all__ = [
    "Check",
    "CheckState",
    "Extent",
    "examine",
    "failed",
    "needed_scopes",
    "portal_checks",
]
