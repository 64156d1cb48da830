"""Wrong turns at a first start that the doctor's other tests do not take: each has its sentence and exit status."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from b24offline.emulator import EmulatorProcess
from b24offline.rest import ReserveOrder
from b24offline.supervisor import child_environ
from tests.support.newcomer import PATIENCE_SECONDS, Patient, emulator, patient, served

__all__ = ["emulator", "patient", "served"]


def test_a_first_start_beside_another_deployments_records(
    served: Patient, emulator: EmulatorProcess, tmp_path: Path
) -> None:
    control = emulator.control()
    control.change("crm_deal", "update", count=3)
    with served.runtime().services("acme").queue.reserving() as reserve:
        assert reserve(ReserveOrder(50, {"ID": "ASC"}))
    (tmp_path / "second").mkdir()
    token = control.issue_token()["refresh_token"]
    own = {"B24_DATA_DIR": str(tmp_path / "second"), "B24_REDIS_KEY_PREFIX": "second", "B24_REFRESH_TOKEN": token}
    try:
        code, found = Patient(tmp_path / "second", {**served.variables, **own}).checks()
    finally:
        control.drop_records()
    assert code == 1
    said = "failed | Batches (1) are reserved under the connector b24offline, and not by this deployment."
    assert found["connector"].startswith(f"{said} | If the other deployment is gone for good: b24offline portal claim")


def test_up_says_that_redis_is_away_and_waits_for_it(patient: Patient) -> None:
    up = subprocess.Popen(
        [sys.executable, "-m", "b24offline", "up"],
        cwd=patient.folder,
        env=child_environ({**patient.variables, "B24_FLOWER_PORT": "0", "B24_CONCURRENCY": "1"}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert up.stdout is not None
    said = ""
    for line in up.stdout:
        said += line
        if "program=settle" in line:  # the last one
            break
    up.send_signal(signal.SIGINT)
    rest, _ = up.communicate(timeout=PATIENCE_SECONDS)
    assert "up     | The ledger cannot be reached (ConnectionError), and everything waits for it." in said, said + rest
    assert "Check Redis and B24_REDIS_URL." in said
    assert up.returncode == 0, rest
