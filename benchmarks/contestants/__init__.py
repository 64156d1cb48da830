"""The contestants, a module for each family; each registers itself."""

from benchmarks.contestants import bare, loop, ours

__all__ = ["bare", "loop", "ours"]
