"""The command line; each command is imported when it is asked for."""

from b24offline.cli.main import main

__all__ = [
    "main",
]
