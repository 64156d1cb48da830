"""Processes under a supervisor: read, started again, ended in order."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from b24offline.supervisor import Grace, Program, Supervisor
from b24offline.supervisor.heartbeats import HEARD_SECONDS
from b24offline.supervisor.process import WELL_SECONDS, wait_after
from tests.support.waiting import alive, wait_until


def test_waits_double_up_to_a_bound() -> None:
    waits = [0.0]
    for _ in range(8):
        waits.append(wait_after(0.1, waits[-1]))
    assert waits[1:] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert wait_after(WELL_SECONDS, waits[-1]) == 1, "after a good life it begins anew"


class Stage:
    """A supervisor in this process, which some thread stops."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[tuple[str, str]] = []

    def program(self, name: str, code: str) -> Program:
        """Return a Python program."""
        return Program(name, (sys.executable, "-u", "-c", code), self.folder, dict(os.environ))

    def run(self, programs: list[Program], until: object, **options: object) -> float:
        """Run until the condition holds, then stops. Return the seconds that stopping took."""
        options = {"say": lambda name, line: self.lines.append((name, line)), **options}
        supervisor = Supervisor(programs, **options)
        asked = [0.0]

        def stop() -> None:
            wait_until(until, "the stage may stop")
            asked[0] = time.monotonic()
            os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=stop)
        thread.start()
        supervisor.run()
        took = time.monotonic() - asked[0]
        thread.join()
        return took

    def said(self, name: str) -> list[str]:
        """Return the lines of one program."""
        return [line for who, line in self.lines if who == name]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_lines_are_passed_on_whole_and_named(stage: Stage) -> None:
    code = (
        "import sys,time; sys.stdout.write('a\\nb'); time.sleep(.2); sys.stdout.write('c\\n\\xe9\\n'); time.sleep(60)"
    )
    stage.run([stage.program("one", code)], lambda: len(stage.said("one")) == 3)
    assert stage.said("one") == ["a", "bc", "\u00e9"]


def test_one_that_cannot_be_started_is_tried_again_and_the_others_live(stage: Stage, tmp_path: Path) -> None:
    folder = tmp_path / "replaced"
    early = Program("early", (sys.executable, "-u", "-c", "print('alive')"), folder, dict(os.environ))
    other = stage.program("other", "import time; print('up', flush=True); time.sleep(1); print('on'); time.sleep(60)")

    def done() -> bool:
        if "up" in stage.said("other"):
            folder.mkdir(exist_ok=True)
        return "alive" in stage.said("early") and stage.said("other") == ["up", "on"]

    stage.run([early, other], done)


def test_the_last_output_of_a_dying_process_is_kept_and_it_restarts(stage: Stage) -> None:
    code = "import sys; sys.stdout.write('x' * 300000 + '\\nlast words'); sys.exit(3)"
    stage.run([stage.program("one", code)], lambda: stage.said("one").count("last words") == 2)
    whole = "".join(stage.said("one"))
    assert whole.count("x") >= 600_000


def test_the_first_is_ready_before_the_others_start_and_ends_after_them(stage: Stage) -> None:
    code = (
        "import signal,sys,time\n"
        "def end(*_): print('end', time.monotonic()); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\nprint('start', time.monotonic())\ntime.sleep(60)"
    )
    asked: list[int] = []

    def ready(pid: int) -> bool:
        asked.append(pid)
        return bool(stage.said("first"))

    stage.run(
        [stage.program("other", code)], lambda: stage.said("other"), first=stage.program("first", code), ready=ready
    )
    assert asked[0] > 0
    began, ended = (
        {name: float(stage.said(name)[index].split()[1]) for name in ("first", "other")} for index in (0, 1)
    )
    assert began["first"] < began["other"]
    assert ended["other"] < ended["first"]


def test_the_grace_is_within_the_15_seconds_that_are_promised() -> None:
    assert Grace().others_seconds + Grace().last_seconds < 15


def test_a_process_that_does_not_listen_is_killed_with_its_children(stage: Stage) -> None:
    code = (
        "import os,signal,time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = os.fork()\nif child: print(child)\ntime.sleep(60)"
    )
    took = stage.run([stage.program("deaf", code)], lambda: stage.said("deaf"), grace=Grace(0.5, 0.5))
    assert 0.4 < took < 30
    wait_until(lambda: not alive(int(stage.said("deaf")[0])), "the deaf program ended")


@pytest.mark.parametrize(("handler", "said"), [(signal.SIG_DFL, ["up"]), (signal.SIG_IGN, ["up", "on"])])
def test_a_hangup_ends_everything_but_under_nohup(stage: Stage, handler: signal.Handlers, said: list[str]) -> None:
    code = (
        "import os,signal,time; print('up', flush=True); os.kill(os.getppid(), signal.SIGHUP); time.sleep(1);"
        "print('on', flush=True); os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    )
    before = signal.signal(signal.SIGHUP, handler)
    try:
        Supervisor([stage.program("one", code)], say=lambda name, line: stage.lines.append((name, line))).run()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert stage.said("one") == said


def beating(stage: Stage, name: str, code: str) -> Program:
    """Return a program that may touch its heartbeat file as `heart()`."""
    file = stage.folder / name
    head = (
        f"import pathlib,time\ndef heart(): pathlib.Path({str(file)!r}).touch()\nprint('start', flush=True)\nheart()\n"
    )
    return replace(stage.program(name, head + code), heartbeat_file=file)


BEATS: Final = "while True: heart(); time.sleep(0.1)"
FALLS_SILENT: Final = "time.sleep(600)"
BUSY_SECONDS: Final = 5.0
"""How much later than another one a process may start on a busy machine."""


def test_a_silent_process_is_killed_with_its_children_and_restarted(stage: Stage) -> None:
    code = f"import os\nchild = os.fork()\nif child: print(child, flush=True)\n{FALLS_SILENT}"
    programs = [beating(stage, "well", BEATS), beating(stage, "hung", code), stage.program("unwatched", FALLS_SILENT)]
    stage.run(programs, lambda: stage.said("hung").count("start") == 3, hung_seconds=BUSY_SECONDS)
    assert stage.said("well") == ["start"]
    assert not alive(int(stage.said("hung")[1]))


def test_silence_of_all_is_the_brokers_and_ends_none(stage: Stage) -> None:
    began = time.monotonic()
    programs = [beating(stage, name, FALLS_SILENT) for name in ("one", "two")]
    hung_seconds = HEARD_SECONDS + BUSY_SECONDS
    stage.run(programs, lambda: time.monotonic() - began > hung_seconds + BUSY_SECONDS, hung_seconds=hung_seconds)
    assert (stage.said("one"), stage.said("two")) == (["start"], ["start"])


def test_a_pause_of_the_whole_machine_ends_none(stage: Stage) -> None:
    """The supervisor, which stands still with the others here, is the first to go on."""
    pid = "import os; print(os.getpid(), flush=True)"
    often = beating(stage, "often", f"{pid}; time.sleep(3); print('halt', flush=True)\n{BEATS}")
    seldom = beating(stage, "seldom", f"{pid}\nwhile True: heart(); time.sleep(1)")
    gone_on = 0.0

    def say(name: str, line: str) -> None:
        nonlocal gone_on
        stage.lines.append((name, line))
        if line == "halt":
            pids = [int(stage.said(one)[1]) for one in ("often", "seldom")]
            for one in pids:
                os.kill(one, signal.SIGSTOP)
            time.sleep(8)
            for one in pids:
                os.kill(one, signal.SIGCONT)
            gone_on = time.monotonic()

    stage.run([often, seldom], lambda: gone_on and time.monotonic() > gone_on + 3, say=say, hung_seconds=6)
    assert stage.said("often").count("start") == stage.said("seldom").count("start") == 1


def test_processes_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys,os,pathlib\nfrom b24offline.supervisor import Supervisor\n"
        "from b24offline.supervisor import Program\n"
        "p = Program('one', (sys.executable, '-c', 'import os,time; print(os.getpid(), flush=True); time.sleep(60)'),"
        " pathlib.Path('.'), dict(os.environ))\n"
        "Supervisor([p], say=lambda n, l: print(l, flush=True)).run()"
    )
    reading, writing = os.pipe()
    pid = os.posix_spawn(
        sys.executable, [sys.executable, "-c", code], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1)]
    )
    os.close(writing)
    child = int(os.read(reading, 100))
    assert alive(child)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reading)
    wait_until(lambda: not alive(child), "the child ended")
