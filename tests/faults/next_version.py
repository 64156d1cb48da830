"""Makes a worker of a row that of the next version: another ledger schema, or another version of the store.

With another ledger schema it keeps the runs of a record under another name. A version that worked on such a batch would
find records without runs, take them for done, and clear them: the checker would see changes that nobody ran.
"""

from __future__ import annotations

import re
from typing import Final

from b24offline import contract
from b24offline.ledger import transitions
from b24offline.store import schema as store_schema

VARIABLE: Final = "B24OFFLINE_TEST_NEXT_VERSION"
"""Set in the environment of a worker of the next version."""
SCHEMA: Final = contract.LEDGER_SCHEMA + 1
"""The schema that the next version writes."""
STORE_VARIABLE: Final = "B24OFFLINE_TEST_NEXT_STORE"
"""Set in the environment of a worker whose version upgrades the store: to `ADDS`, or to something else where this
version can use the store no more."""
ADDS: Final = "adds"
NEXT_STORE: Final = store_schema.SCHEMA_VERSION + 1


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


def pretend_store(step: str) -> None:
    """From now on this process is of a version that upgrades the store."""
    added = ("ALTER TABLE portals ADD COLUMN remark TEXT NOT NULL DEFAULT ''",)
    store_schema.STEPS = {store_schema.SCHEMA_VERSION: added}  # type: ignore[misc]
    store_schema.SCHEMA_VERSION = NEXT_STORE  # type: ignore[misc]
    if step != ADDS:
        store_schema.READABLE_FROM = NEXT_STORE  # type: ignore[misc]
