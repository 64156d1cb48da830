"""One machine: processes that are kept alive, and an embedded Valkey."""

from b24offline.supervisor.celery_process import CeleryProcess, beat, child_environ, worker
from b24offline.supervisor.die_with_parent import tethered
from b24offline.supervisor.lockfile import SingleStart
from b24offline.supervisor.process import Program
from b24offline.supervisor.supervisor import HUNG_SECONDS, Grace, Supervisor
from b24offline.supervisor.valkey import (
    EmbeddedValkey,
    embedded_valkey,
    needs_embedded_valkey,
    with_ledger_address,
)

__all__ = [
    "HUNG_SECONDS",
    "CeleryProcess",
    "EmbeddedValkey",
    "Grace",
    "Program",
    "SingleStart",
    "Supervisor",
    "beat",
    "child_environ",
    "embedded_valkey",
    "needs_embedded_valkey",
    "tethered",
    "with_ledger_address",
    "worker",
]
