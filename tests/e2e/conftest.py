"""A deployment for the tests of a file; the wheel of this checkout, and an environment that holds nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis

from b24offline.supervisor import EmbeddedValkey
from tests.support.stack import Stack, StandingStack

CHECKOUT = Path(__file__).resolve().parents[2]
INSTALL_SECONDS = 600


def build(target: str, source: Path, folder: Path) -> Path:
    """Build a wheel or an sdist with the build backend of this environment; it needs no network."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module", params=["valkey", "rabbitmq"])
def broker_url(request: pytest.FixtureRequest, valkey: EmbeddedValkey) -> str:
    """The broker of a test that runs on both."""
    if request.param == "valkey":
        return valkey.url
    return str(request.getfixturevalue("rabbit").url)


@pytest.fixture
def redis(valkey: EmbeddedValkey) -> Iterator[Redis]:
    """A client of the embedded Valkey. What tests keep there is gone once they have their stack."""
    client = Redis.from_url(valkey.url, decode_responses=True)
    yield client
    client.close()


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory, valkey: EmbeddedValkey) -> Iterator[StandingStack]:
    """The stack that the tests of a file share."""
    made = StandingStack(lambda: tmp_path_factory.mktemp("stack"), valkey.url)
    yield made
    made.close()


@pytest.fixture
def start_stack(standing: StandingStack) -> Iterator[Callable[..., Stack]]:
    """Take over the stack of the test before where the options are the same; it shows its log after the test."""
    yield standing.take
    standing.show()


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
