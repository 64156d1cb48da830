"""The command line of a fault run: `b24offline push`, without the guard that a row's environment names."""

from __future__ import annotations

import os

from b24offline.cli import main
from tests.faults import sabotage

if __name__ == "__main__":
    if sabotage.VARIABLE in os.environ:
        sabotage.GUARDS[os.environ[sabotage.VARIABLE]](setattr)
    main(prog_name="b24offline")
