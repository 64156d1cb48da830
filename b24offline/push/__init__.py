"""The portals' messages to us: signals that records have arrived, installations, updates and removals."""

from b24offline.push.background import Background
from b24offline.push.receiver import Receiver
from b24offline.push.serve import serve
from b24offline.push.web import WebApp

__all__ = [
    "Background",
    "Receiver",
    "WebApp",
    "serve",
]
