"""The contestants, a module for each family; each registers itself."""

from benchmarks.contestants import bare, in_bulk, loop, ours

__all__ = ["bare", "in_bulk", "loop", "ours"]
