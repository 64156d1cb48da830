"""`deploy/systemd`: systemd finds nothing wrong with the units, they are confined, and run what compose.yaml runs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = CHECKOUT / "deploy" / "systemd"
PROGRAMS = "/opt/b24offline/venv/bin"
UNITS = {"worker": "b24offline-worker@1.service", "settle": "b24offline-settle.service"}
UNITS |= {name: f"b24offline-{name}.service" for name in ("beat", "metrics", "push")}
OF_CONTAINERS = ("--address", "0.0.0.0")
"""What only a container needs: there nobody else is on loopback."""
MOST_EXPOSED = 20
"""Of 100, as `systemd-analyze security` counts. A service that says nothing has 96."""


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with the programs of this environment: systemd looks whether they are there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze: apt-get install systemd")
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.glob("*.service"):
        path.write_text(path.read_text("utf-8").replace(PROGRAMS, str(Path(sys.executable).parent)))
    return tmp_path


def analyze(units: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        ["systemd-analyze", *words],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def test_systemd_finds_nothing_wrong(units: Path) -> None:
    assert analyze(units, "verify", "--man=no", *UNITS.values()) == (0, "")


@pytest.mark.parametrize("unit", UNITS.values())
def test_a_unit_is_confined(units: Path, unit: str) -> None:
    status, said = analyze(units, "security", "--offline=true", f"--threshold={MOST_EXPOSED}", unit)
    assert status == 0, said


@pytest.mark.parametrize("service", UNITS)
def test_a_unit_runs_what_compose_runs(service: str) -> None:
    file = FOLDER / re.sub(r"@1", "@", UNITS[service])
    (line,) = re.findall(r"^ExecStart=(.*)$", file.read_text("utf-8"), re.MULTILINE)
    program, *words = shlex.split(line.replace("%%", "%").replace("%i", ""))
    composed = yaml.safe_load((CHECKOUT / "compose.yaml").read_text("utf-8"))["services"][service]["command"]
    defaults = [re.sub(r"\$\{\w+:-(.*)\}", r"\1", word) for word in composed]
    assert [program.rpartition("/")[2], *words] == [word for word in defaults if word not in OF_CONTAINERS]
