"""Makes a worker of a row that of the next version: another ledger schema, batches that look otherwise in Redis.

It keeps the runs of a record under another name. A version that worked on such a batch would find records without runs,
take them for done, and clear them: the checker would see changes that nobody ran.
"""

from __future__ import annotations

import re
from typing import Final

from b24offline import contract
from b24offline.ledger import transitions

VARIABLE: Final = "B24OFFLINE_TEST_NEXT_VERSION"
"""Set in the environment of a worker of the next version."""
SCHEMA: Final = contract.LEDGER_SCHEMA + 1
"""The schema that the next version writes."""


def pretend() -> None:
    """From now on this process is of the next version."""
    honest = transitions._script_text

    def text(name: str) -> str:
        script = re.sub(r"split\(((?:cjson\.decode\(text\)|record))\.runs\)", r"split(\1.work)", honest(name))
        if name == "open_batch":
            assert script.count("runs = table.concat(names, ',')") == 1
            script = script.replace("runs = table.concat(names, ',')", "work = table.concat(names, ',')")
        return script

    transitions._script_text = text  # type: ignore[assignment]
    contract.LEDGER_SCHEMA = SCHEMA  # type: ignore[misc]
