"""The metrics of a deployment, for Prometheus."""

from b24offline.metrics.catalogue import DEFINITIONS, GROUPS, Definition
from b24offline.metrics.exporter import Exporter, serve

__all__ = ["DEFINITIONS", "GROUPS", "Definition", "Exporter", "serve"]
