"""Prints the lowest version that `pyproject.toml` allows of each direct dependency, as constraints for pip.

`python tools/lowest.py test` takes the extra `test` in, and the extras of this project that it names.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PYPROJECT: Final = Path(__file__).resolve().parent.parent / "pyproject.toml"
_REQUIREMENT: Final = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[(?P<extras>[^]]*)\])?(?P<versions>[^;]*)")
_FLOOR: Final = re.compile(r">=\s*([0-9][0-9.]*)")


def lowest(project: dict[str, Any], extras: Iterable[str]) -> Iterator[str]:
    """Return one line for each dependency that has a lower bound: ``name==version``."""
    optional = project["optional-dependencies"]
    todo = [*project["dependencies"], *(line for extra in extras for line in optional[extra])]
    while todo:
        found = _REQUIREMENT.match(todo.pop(0))
        if not found:
            continue
        if found["name"] == project["name"]:
            todo += [line for extra in found["extras"].split(",") for line in optional[extra.strip()]]
        elif floor := _FLOOR.search(found["versions"]):
            yield f"{found['name']}=={floor[1]}"


if __name__ == "__main__":
    sys.stdout.write("\n".join(lowest(tomllib.loads(PYPROJECT.read_text("utf-8"))["project"], sys.argv[1:])) + "\n")
