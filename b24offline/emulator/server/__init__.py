"""Portals behind HTTP: addresses, token endpoint, control API, fault injection and signals."""

from b24offline.emulator.server.app import EmulatorApp
from b24offline.emulator.server.world import Options, World

__all__ = [
    "EmulatorApp",
    "Options",
    "World",
]
