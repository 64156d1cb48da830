"""Processes of demo and tests: none outlives the one that started it, however that died."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from b24offline.supervisor import child_environ
from tests.support.waiting import alive, wait_until

STARTERS = {
    "Valkey": "process = EmbeddedValkey(folder).start()",
    "beat": "process = beat(environ=child_environ({'B24_REDIS_URL': 'redis://127.0.0.1:9/0'}), folder=folder).start()",
}
CODE = (
    "import pathlib, sys, time\nfrom b24offline.supervisor import EmbeddedValkey\n"
    "from b24offline.supervisor import beat, child_environ\nfolder = pathlib.Path(sys.argv[1])\n"
    "{}\nprint(process.pid, flush=True)\ntime.sleep(60)"
)


@pytest.mark.parametrize("what", STARTERS)
def test_a_killed_starter_takes_it_along(tmp_path: Path, what: str) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", CODE.format(STARTERS[what]), str(tmp_path)], stdout=subprocess.PIPE
    )
    assert starter.stdout
    pid = int(starter.stdout.readline())
    wait_until(
        lambda: b"die_with_parent.py" not in Path(f"/proc/{pid}/cmdline").read_bytes(), "it has become the program"
    )
    assert alive(pid)
    starter.kill()
    starter.wait()
    starter.stdout.close()
    wait_until(lambda: not alive(pid), "the process ended")


def test_the_demo_cleans_up_when_its_terminal_is_closed(tmp_path: Path) -> None:
    # The tests themselves may run under nohup, whose children ignore a hangup.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        demo = subprocess.Popen(
            [sys.executable, "-m", "demo", "--objects", "6"],
            env=child_environ({"TMPDIR": str(tmp_path)}),
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_until(lambda: list(tmp_path.glob("b24offline-demo-*/valkey/valkey.log")), "the demo started Valkey")
    demo.send_signal(signal.SIGHUP)
    assert demo.wait(30) == 128 + signal.SIGHUP
    assert not list(tmp_path.glob("b24offline-demo-*"))
