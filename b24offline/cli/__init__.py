from b24offline.cli.main import main

__all__ = [
    "main",
]
