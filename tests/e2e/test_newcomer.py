"""A newcomer follows docs/quickstart.md word by word: an empty folder, the wheel, a real browser, the first event.

The emulator is the portal, with its limits, and every timer is the real one. `make newcomer` shows the timeline.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from b24offline.emulator import EmulatorProcess
from tests.e2e.conftest import CHECKOUT, Distributions
from tests.support.browser import Browser, missing_programs
from tests.support.ports import free_port
from tests.support.terminal import Terminal

QUICKSTART = (CHECKOUT / "docs" / "quickstart.md").read_text("utf-8").partition("## When it does not work")[0]
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", QUICKSTART, re.DOTALL) for line in block.splitlines()]
(PIPELINE,) = re.findall(r"```python\n(.*?)```", QUICKSTART, re.DOTALL)
MOST_COMMANDS = 6
MOST_SECONDS = 180.0
"""Of a machine that does nothing else; one that is busy may take longer in proportion."""
PATIENCE_SECONDS = 600.0
MADE_BY_RUNNING = ("data", "__pycache__")


@dataclass
class Timeline:
    """What happened when, in seconds since the newcomer began."""

    lines: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def slowness(self) -> float:
        """How many times longer everything takes, by the programs that want a core of this machine."""
        return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))

    def note(self, what: str) -> None:
        self.lines.append(f"{self.seconds:5.1f} s  {what}")
        print(self.lines[-1], flush=True)


@pytest.fixture
def portal() -> Iterator[EmulatorProcess]:
    with EmulatorProcess(limits_off=False) as process:
        yield process


def environment(folder: Path, portal: EmulatorProcess) -> dict[str, str]:
    """Return what a person's shell has; the last three because the portal is an emulated one."""
    ours = ("B24", "CELERY", "FLOWER", "PYTHON", "VIRTUAL_ENV")
    pins = re.findall(r"^[A-Za-z0-9._-]+==[^\s;]+", (CHECKOUT / "requirements.lock").read_text("utf-8"), re.MULTILINE)
    (folder / "versions.txt").write_text("\n".join(pins))
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(ours)},
        "HOME": str(folder),
        "PIP_CONSTRAINT": str(folder / "versions.txt"),
        "B24_FLOWER_PORT": str(free_port()),
        "B24_AUTH_URL": portal.auth_url,
        "B24_LOOPBACK_HTTP": "true",
    }


def adapted(wheel: Path, portal: EmulatorProcess, port: int) -> list[str]:
    """Return the commands of the document, with the wheel of this checkout and the emulated portal."""
    replaced = {
        "python3.11": sys.executable,
        "b24offline[embedded,flower]": f"b24offline[embedded,flower] @ {wheel.as_uri()}",
        "acme.bitrix24.com": f"{portal.url} --port {port}",
    }
    text = "\n".join(COMMANDS)
    for written, typed in replaced.items():
        assert text.count(written) == 1, f"{written} in the quickstart"
        text = text.replace(written, typed)
    return text.splitlines()


def files(folder: Path) -> dict[str, str]:
    """Return the text of each file that a person may have edited."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {
        name: path.read_text("utf-8")
        for path in paths
        if not (name := path.relative_to(folder).as_posix()).startswith(MADE_BY_RUNNING)
    }


def authorize(terminal: Terminal, command: str, portal: EmulatorProcess, folder: Path) -> None:
    """Run `auth`, answer what it asks, allow the application in the browser, and see it say so."""
    terminal.write(command)
    terminal.expect("Uses API only", PATIENCE_SECONDS)
    terminal.expect("Client id: ", PATIENCE_SECONDS)
    terminal.write(portal.client_id)
    terminal.expect(r"Client secret .*: ", PATIENCE_SECONDS)
    terminal.write(portal.client_secret)
    link = terminal.expect(r"^  (http\S+)$", PATIENCE_SECONDS)[1]
    terminal.expect("Waiting for the browser", PATIENCE_SECONDS)
    with Browser(folder) as browser:
        browser.open(link)
        browser.expect("asks for access to")
        browser.click("button[value=allow]")
        browser.expect("Authorized")
    assert terminal.expect(r"<<(\d+)>> $", PATIENCE_SECONDS)[1] == "0", terminal.shown


def test_from_an_empty_folder_to_the_first_event(
    distributions: Distributions, portal: EmulatorProcess, tmp_path: Path
) -> None:
    if packages := missing_programs():
        pytest.skip(f"no browser: apt-get install {packages}")
    home, port = tmp_path / "home", free_port()
    home.mkdir()
    control = portal.control()
    control.app(address=f"http://127.0.0.1:{port}/")  # step 2, in the portal
    *prepare, auth, up, doctor = adapted(distributions.wheel, portal, port)
    environ = environment(tmp_path, portal)
    timeline = Timeline()
    with Terminal(home, environ) as terminal:
        for command in prepare:
            status, shown = terminal.run(command, PATIENCE_SECONDS)
            assert status == 0, shown
            timeline.note(command)
        made = files(home / "shop")
        authorize(terminal, auth, portal, tmp_path)
        timeline.note(f"{auth}  (the browser allowed it)")
        assert "was added" in terminal.shown
        (home / "shop" / "pipelines.py").write_text(PIPELINE)
        terminal.write(up)
        terminal.expect("subscri", PATIENCE_SECONDS)
        timeline.note(f"{up}  (events are subscribed)")
        (changed,) = control.change("crm_deal", "update")
        terminal.expect(f"ONCRMDEALUPDATE crm_deal {changed}", PATIENCE_SECONDS)
        timeline.note(f"crm_deal {changed} was changed: its event is handled")
        with Terminal(home / "shop", environ) as second:
            status, shown = second.run(doctor, PATIENCE_SECONDS)
        timeline.note(doctor)
        assert (status, "failed" in shown) == (0, False), shown
        assert terminal.interrupt(PATIENCE_SECONDS) == 0
        assert "Traceback" not in terminal.shown, terminal.shown
    edited = [name for name, text in files(home / "shop").items() if text != made.get(name)]
    assert edited == ["pipelines.py"]
    assert len(COMMANDS) <= MOST_COMMANDS, COMMANDS
    assert timeline.seconds < MOST_SECONDS * timeline.slowness, "\n".join(timeline.lines)
