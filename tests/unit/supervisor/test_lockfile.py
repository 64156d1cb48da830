"""One supervisor on a data directory, and no processes left of a killed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from b24offline.errors import ConfigError
from b24offline.supervisor import SingleStart
from b24offline.supervisor import lockfile as single_start
from tests.support.waiting import wait_until

HOLD = (
    "import sys,pathlib,time\nfrom b24offline.supervisor import SingleStart\n"
    "with SingleStart(pathlib.Path(sys.argv[1])) as start:\n"
    "    import subprocess\n"
    "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], pass_fds=(start.members,))\n"
    "    print(child.pid, flush=True)\n    time.sleep(60)"
)


@pytest.fixture
def holder(tmp_path: Path):
    """A supervisor with one process."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    child = int(process.stdout.readline())
    yield process, child
    process.kill()
    process.wait()
    process.stdout.close()
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


def test_a_second_supervisor_is_refused_with_the_id_of_the_first(tmp_path, holder):
    with pytest.raises(ConfigError, match=rf"as process {holder[0].pid}\. Stop it first"), SingleStart(tmp_path):
        pass


def test_only_the_processes_of_a_killed_supervisor_are_killed(tmp_path, holder, monkeypatch):
    process, child = holder
    monkeypatch.setattr(single_start, "PATIENCE_SECONDS", 0.2)
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    process.kill()
    process.wait()
    os.kill(child, 0)
    with SingleStart(tmp_path):
        wait_until(
            lambda: not Path(f"/proc/{child}/fd").exists() or not list(Path(f"/proc/{child}/fd").iterdir()),
            "the child has closed its files",
        )
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_it_starts_again_after_an_end(tmp_path):
    for _ in range(2):
        with SingleStart(tmp_path) as start:
            assert (tmp_path / "up.lock").read_text() == f"{os.getpid()}\n"
            assert not os.get_inheritable(start.members)


@pytest.mark.parametrize("folder", ["file/data", "file"])
def test_an_unusable_folder_is_refused_with_a_sentence(tmp_path, folder):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"^B24_DATA_DIR .* cannot be used: .* a writable folder\.$"):
        SingleStart(tmp_path / folder).__enter__()
