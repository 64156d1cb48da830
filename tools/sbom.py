"""Holds a software bill of materials against `requirements.lock`: the same packages, versions and hashes, no other.

`python -m tools.sbom FILE` ends with 1 and what differs. The bill (CycloneDX, JSON) is made by cyclonedx-bom.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

LOCK: Final = Path("requirements.lock")
_PINNED: Final = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", re.MULTILINE)
_HASH: Final = re.compile(r"sha256:([0-9a-f]{64})")

Packages = dict[tuple[str, str], frozenset[str]]
"""Name and version -> its SHA-256."""


def locked(text: str) -> Packages:
    """Return what a lock file names."""
    starts = list(_PINNED.finditer(text))
    ends = [match.start() for match in starts[1:]] + [len(text)]
    return {
        (match[1].lower(), match[2]): frozenset(_HASH.findall(text[match.end() : end]))
        for match, end in zip(starts, ends, strict=True)
    }


def listed(bill: dict[str, Any]) -> Packages:
    """Return what a bill of materials names."""
    return {
        (component["name"].lower(), component["version"]): frozenset(
            digest["content"]
            for reference in component.get("externalReferences", [])
            for digest in reference.get("hashes", [])
            if digest["alg"] == "SHA-256"
        )
        for component in bill["components"]
    }


def differences(bill: dict[str, Any], lock: str) -> list[str]:
    """Return what is wrong with a bill, a sentence each."""
    found, wanted = listed(bill), locked(lock)
    return [
        *(["it is not CycloneDX"] if bill.get("bomFormat") != "CycloneDX" else []),
        *(["it is not about b24offline"] if bill["metadata"]["component"]["name"] != "b24offline" else []),
        *(f"{name} {version} is missing" for name, version in sorted(wanted.keys() - found.keys())),
        *(f"{name} {version} is not locked" for name, version in sorted(found.keys() - wanted.keys())),
        *(
            f"{name} {version} has other hashes than the lock"
            for name, version in sorted(wanted.keys() & found.keys())
            if found[name, version] != wanted[name, version]
        ),
    ]


def main() -> None:
    """Print what is wrong with the bill, if anything."""
    bill = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    wrong = differences(bill, LOCK.read_text("utf-8"))
    said = wrong or [f"Ready: {sys.argv[1]}, {len(listed(bill))} packages"]
    sys.stdout.write("\n".join(said) + "\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
