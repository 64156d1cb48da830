"""The wheel and the sdist of this checkout, and an environment that holds nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
INSTALL_SECONDS = 600


def build(target: str, source: Path, folder: Path) -> Path:
    """Build a wheel or an sdist with the build backend of this environment; it needs no network."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    (made,) = folder.iterdir()
    return made


@dataclass
class Distributions:
    """The wheel, the sdist, and the wheel made of the sdist."""

    wheel: Path
    sdist: Path
    wheel_of_sdist: Path


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """The distributions, built from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    sdist = build("sdist", CHECKOUT, folder / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    return Distributions(build("wheel", CHECKOUT, folder / "wheel"), sdist, build("wheel", source, folder / "again"))


@pytest.fixture(scope="session")
def installed(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment with the wheel and its extra `embedded`, in the locked versions."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True, timeout=INSTALL_SECONDS)
    pins = re.findall(r"^[A-Za-z0-9._-]+==[^\s;]+", (CHECKOUT / "requirements.lock").read_text("utf-8"), re.MULTILINE)
    (folder / "versions.txt").write_text("\n".join(pins))
    programs = folder / "venv" / "bin"
    wanted = f"b24offline[embedded] @ {distributions.wheel.as_uri()}"
    install = [str(programs / "pip"), "install", "--quiet", "--constraint", str(folder / "versions.txt"), wanted]
    done = subprocess.run(install, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS)
    assert done.returncode == 0, done.stderr
    return programs
