"""The folder that `b24offline new` writes, brought up by its own compose.yaml beside an emulated portal."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from click.testing import CliRunner

from b24offline.cli import main
from tests.compose.engine import Failed, clean_environ, find_compose, run
from tests.compose.project import IMAGE
from tests.support.waiting import NotInTime, wait_until

_SECONDS: Final = 180
_PORTAL: Final = {
    "B24_PORTAL_NAME": "acme",
    "B24_PORTAL_URL": "http://127.0.0.1:8000/rest/",
    "B24_AUTH_URL": "http://127.0.0.1:8000/oauth/token/",
    "B24_LOOPBACK_HTTP": "true",
    "B24_CLIENT_ID": "local.app",
    "B24_CLIENT_SECRET": secrets.token_hex(16),
    "B24_REFRESH_TOKEN": secrets.token_hex(16),
}
_EMULATOR: Final = (
    *("python", "-m", "b24offline.emulator", "--port", "8000", "--client-id", _PORTAL["B24_CLIENT_ID"]),
    *("--client-secret", _PORTAL["B24_CLIENT_SECRET"], "--refresh-token", _PORTAL["B24_REFRESH_TOKEN"]),
)
_CONTROL: Final = "from b24offline.emulator import Control; portal = Control('http://127.0.0.1:8000/control/'); "


class NewFolder:
    """A project of Compose in a folder of its own. It shares the worker's network: plain http stays on loopback."""

    def __init__(self) -> None:
        self._compose = find_compose()
        self._name = f"b24offline-new-{secrets.token_hex(4)}"
        self._environ = clean_environ({"B24OFFLINE_IMAGE": IMAGE})

    def serves_a_portal(self, say: Callable[[str], None]) -> None:
        """Bring it up, change a deal, and expect that its pipeline ran. Raise `Failed`."""
        with tempfile.TemporaryDirectory(prefix="b24offline-new-") as parent:
            self._folder = Path(parent) / "shop"
            made = CliRunner().invoke(main, ["new", str(self._folder)])
            if made.exit_code:
                raise Failed(made.output)
            Path(parent).chmod(0o755)  # the container's user reads the pipelines
            more = {
                "worker": {"environment": _PORTAL},
                "emulator": {"image": IMAGE, "init": True, "command": _EMULATOR, "network_mode": "service:worker"},
            }
            (self._folder / "compose.override.yaml").write_text(json.dumps({"services": more}))
            try:
                self._run("up", "--detach", "--no-build", seconds=300)
                self._expect_an_event_handled()
                self._run("exec", "-T", "worker", "b24offline", "doctor")
            except (Failed, NotInTime) as error:
                raise Failed(f"{error}\n{self._run('logs', '--tail', '40', check=False)}") from None
            finally:
                self._run("down", "--volumes", "--timeout", "5", seconds=300)
        say("the folder of b24offline new serves a portal by its own compose.yaml")

    def _expect_an_event_handled(self) -> None:
        bound = "print(len(portal.state()['bindings']))"
        wait_until(lambda: self._portal(bound, check=False) == "3", "events are bound", _SECONDS)
        changed = self._portal("print(*portal.change('crm_deal', 'update', count=1))")
        wait_until(
            lambda: f"crm_deal {changed} is in stage" in self._run("logs", "worker"), "its pipeline runs", _SECONDS
        )

    def _portal(self, code: str, *, check: bool = True) -> str:
        return self._run("exec", "-T", "emulator", "python", "-c", _CONTROL + code, check=check).strip()

    def _run(self, *words: str, seconds: float = 120, check: bool = True) -> str:
        command = (*self._compose, "-p", self._name, "--project-directory", str(self._folder))
        files = ("-f", str(self._folder / "compose.yaml"), "-f", str(self._folder / "compose.override.yaml"))
        return run(*command, *files, *words, environ=self._environ, timeout_seconds=seconds, check=check)
