"""Asks the public sources of advisories about what `requirements.lock` names, and fails on what they know.

`python -m tools.dependency_audit PROGRAM` runs that pip-audit. The exit status is 1 for findings only: where no source
can be reached, or none knows our packages, that is said, and nothing was shown.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Final

LOCK: Final = "requirements.lock"
SOURCE_SECONDS: Final = 5
"""How long one request may take."""
WHOLE_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """``status``: of the process."""

    status: int
    text: str


def verdict(output: str, complaint: str) -> Verdict:
    """Return what a report as JSON comes to; ``complaint`` is what the program said beside it. Pure."""
    try:
        packages: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, TypeError, KeyError):
        last = (complaint.strip().splitlines() or ["it said nothing"])[-1]
        return Verdict(0, f"No audit was possible, so nothing is shown: {last[:300]}")
    findings = [
        f"{package['name']} {package['version']}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'none'}"
        for package in packages
        for found in package.get("vulns", [])
    ]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    audited = len(packages) - len(skipped)
    if findings:
        return Verdict(1, "\n".join([f"{len(findings)} advisories:", *findings]))
    if not audited:
        return Verdict(
            0, f"No audit was possible, so nothing is shown: no source knows any of {len(packages)} packages."
        )
    unknown = f"; no source knows {', '.join(skipped)}" if skipped else ""
    return Verdict(0, f"No advisory about {audited} of {len(packages)} packages{unknown}.")


def audited(program: str, lock: str = LOCK) -> Verdict:
    """Run pip-audit on a lock file whose hashes it only reads: nothing is installed or resolved."""
    words = [program, "--disable-pip", "--require-hashes", "--requirement", lock, "--format", "json"]
    bounds = ["--timeout", str(SOURCE_SECONDS), "--progress-spinner", "off"]
    try:
        done = subprocess.run(  # noqa: S603 - the program is that of the Makefile
            [*words, *bounds],
            check=False,
            capture_output=True,
            text=True,
            timeout=WHOLE_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return verdict("", f"no source answered within {WHOLE_SECONDS:g} s")
    return verdict(done.stdout, done.stderr)


def main() -> None:
    """Print the verdict, and end with its status."""
    found = audited(sys.argv[1])
    sys.stdout.write(f"{found.text}\n")
    sys.exit(found.status)


if __name__ == "__main__":
    main()
