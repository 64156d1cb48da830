"""Whether a deployment can work: each thing that it needs, how it is, and what to do about it."""

from b24offline.doctor.check import Check, CheckState
from b24offline.doctor.examine import Extent, examine
from b24offline.doctor.first_look import first_look
from b24offline.doctor.portal_checks import needed_scopes

__all__ = [
    "Check",
    "CheckState",
    "Extent",
    "examine",
    "first_look",
    "needed_scopes",
]
