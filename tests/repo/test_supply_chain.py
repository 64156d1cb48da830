"""The audit of dependencies fails on findings only and takes no silence for health; the bill names what is locked."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tools.dependency_audit import audited, verdict
from tools.sbom import LOCK, differences, locked

CLEAN = {"name": "amqp", "version": "5.4.2", "vulns": []}
BAD = {"name": "redis", "version": "6.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["6.1"]}]}
UNKNOWN = {"name": "ours", "skip_reason": "Dependency not found"}


@pytest.mark.parametrize(
    ("packages", "status", "text"),
    [
        ([CLEAN], 0, "No advisory about 1 of 1 packages."),
        ([CLEAN, UNKNOWN], 0, "No advisory about 1 of 2 packages; no source knows ours."),
        ([CLEAN, BAD, UNKNOWN], 1, "1 advisories:\nredis 6.0: PYSEC-1, mended in 6.1"),
        ([UNKNOWN], 0, "No audit was possible, so nothing is shown: no source knows any of 1 packages."),
    ],
)
def test_only_findings_fail_and_what_nobody_knows_is_not_called_healthy(
    packages: list[dict[str, Any]], status: int, text: str
) -> None:
    found = verdict(json.dumps({"dependencies": packages}), "")
    assert (found.status, found.text) == (status, text)


@pytest.mark.parametrize("output", ["", "{}", "[]", "null", "not json"])
def test_a_source_that_cannot_be_reached_is_said_and_fails_nothing(output: str) -> None:
    found = verdict(output, "noise\nERROR: connection refused\n")
    assert (found.status, found.text) == (
        0,
        "No audit was possible, so nothing is shown: ERROR: connection refused",
    )


def test_the_program_is_asked_about_the_lock_and_installs_nothing(tmp_path: Path) -> None:
    program = tmp_path / "pip-audit"
    program.write_text(
        '#!/bin/sh\necho "$@" > "$0.words"\necho \'' + json.dumps({"dependencies": [BAD]}) + "'\nexit 1\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    assert audited(str(program)).status == 1
    words = (tmp_path / "pip-audit.words").read_text()
    assert "--disable-pip --require-hashes --requirement requirements.lock" in words


def bill(lock: str) -> dict[str, Any]:
    return {
        "bomFormat": "CycloneDX",
        "metadata": {"component": {"name": "b24offline"}},
        "components": [
            {
                "name": name,
                "version": version,
                "externalReferences": [{"hashes": [{"alg": "SHA-256", "content": digest} for digest in digests]}],
            }
            for (name, version), digests in locked(lock).items()
        ],
    }


def test_a_bill_is_held_against_the_lock() -> None:
    lock = LOCK.read_text("utf-8")
    assert len(locked(lock)) > 30
    assert all(locked(lock).values()), "every package has hashes"
    assert differences(bill(lock), lock) == []
    for spoil, said in (
        (lambda made: made["components"].pop(), "is missing"),
        (lambda made: made["components"].append({"name": "evil", "version": "1"}), "evil 1 is not locked"),
        (lambda made: made["components"][0].update(externalReferences=[]), "has other hashes than the lock"),
        (lambda made: made.update(bomFormat="SPDX"), "it is not CycloneDX"),
    ):
        made = bill(lock)
        spoil(made)
        (found,) = differences(made, lock)
        assert said in found
