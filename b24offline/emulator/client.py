"""An emulator in a process of its own, and a client of its control API; for tests, demo and fault runs."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import requests

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 60.0
_ROOT: Final = Path(__file__).resolve().parents[2]
"""Where this package is found; the process may be started from any directory."""


class EmulatorError(Exception):
    """The emulator did not start, or refused a control request; the text says why."""


class EmulatorProcess:
    """A context manager: `python -m b24offline.emulator` on a free port, stopped by its process id.

    `portals` are further portals beside the default one, `objects` are made on each; `arguments` are passed
    on.
    """

    def __init__(
        self,
        *,
        portals: Sequence[str] = (),
        objects: int = 60,
        seed: int = 1,
        time_scale: float = 1.0,
        limits_off: bool = True,
        port: int = 0,
        arguments: Sequence[str] = (),
        cwd: Path | None = None,
    ) -> None:
        self._command = [
            sys.executable,
            "-m",
            "b24offline.emulator",
            "--exit-with-parent",
            "--port",
            str(port),
        ]
        self._command += ["--objects", str(objects), "--seed", str(seed), "--time-scale", str(time_scale)]
        self._command += [part for name in portals for part in ("--portal", name)]
        self._command += [*(["--limits-off"] if limits_off else []), *arguments]
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this object
        self.hello: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        """Return the id of the running process; raise EmulatorError when there is none."""
        if self._process is None:
            raise EmulatorError("the emulator is not running")
        return self._process.pid

    @property
    def url(self) -> str:
        """Return the address where it listens, without a path."""
        return str(self.hello["url"])

    @property
    def rest(self) -> str:
        """Return the default portal's `client_endpoint`."""
        return str(self.hello["rest"])

    @property
    def auth_url(self) -> str:
        """Return the token endpoint."""
        return str(self.hello["auth_url"])

    @property
    def client_id(self) -> str:
        """Return the application's id."""
        return str(self.hello["client_id"])

    @property
    def client_secret(self) -> str:
        """Return the application's secret."""
        return str(self.hello["client_secret"])

    def control(self, portal: str = "default") -> Control:
        """Return a control client for one portal."""
        return Control(str(self.hello["control"]), portal)

    def start(self) -> Self:
        """Start the process and wait until it is ready; raise EmulatorError when it ends or stays silent."""
        found = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        process = subprocess.Popen(  # noqa: S603 - this interpreter and our own arguments
            self._command,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=self._cwd,
            env={**os.environ, "PYTHONPATH": found},
        )
        self._process = process
        if process.stdout is None:
            raise EmulatorError("the emulator has no output")
        ready, _, _ = select.select([process.stdout], [], [], START_SECONDS)
        line = process.stdout.readline() if ready else b""
        if not line:
            self.stop()
            self._errors.seek(0)
            raise EmulatorError(f"the emulator did not start: {self._errors.read().decode()[-2000:]}")
        self.hello = json.loads(line)
        return self

    def stop(self) -> None:
        """Stop the process, gently at first; do nothing when it has ended."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._errors.close()


class Control:
    """The control API of one portal. Answers are the JSON described in `docs/emulator.md`.

    Every method raises EmulatorError with the emulator's own words when it refuses.
    """

    def __init__(self, url: str, portal: str = "default") -> None:
        self._url = url
        self._portal = portal
        self._session = requests.Session()

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def send(self, verb: str, path: str, body: Any = None, **query: Any) -> Any:
        """Send any request of the control API and return its reply."""
        response = self._session.request(
            verb,
            self._url + path,
            params={"portal": self._portal, **query},
            json=body,
            timeout=_ANSWER_SECONDS,
        )
        reply = response.json()
        if response.status_code != 200:
            raise EmulatorError(f"{verb} {path} on portal {self._portal}: {reply.get('error')}")
        return reply

    def change(
        self,
        entity: str,
        action: str,
        *,
        ids: Sequence[str] = (),
        count: int = 1,
        fields: dict[str, Any] | None = None,
        connector: str = "",
    ) -> list[str]:
        """Add, update or delete objects and return their ids."""
        body: dict[str, Any] = {"entity": entity, "action": action, "connector": connector, "fields": fields}
        body |= {"ids": list(ids)} if ids else {"count": count}
        return [str(object_id) for object_id in self.send("POST", "change", body)["ids"]]

    def raise_event(self, name: str, data: Any, **more: Any) -> int:
        """Queue an event with any data and return the number of connectors that got it."""
        return int(self.send("POST", "event", {"name": name, "data": data, **more})["queued"])

    def backlog(self, count: int, **more: Any) -> int:
        """Change `count` different objects and return the number of new records."""
        return int(self.send("POST", "backlog", {"count": count, **more})["queued"])

    def start_traffic(self, **plan: Any) -> None:
        """Begin a stream: `rate`, `seconds`, `add`, `update`, `delete`, `seed`, `entities`, `hot`."""
        self.send("POST", "traffic", plan)

    def stop_traffic(self) -> dict[str, Any]:
        """End the stream and return `count` and `counts`."""
        return dict(self.send("DELETE", "traffic"))

    def traffic(self) -> dict[str, Any]:
        """Return how the stream is doing: `running`, `count`, `counts`, `late_seconds`."""
        return dict(self.send("GET", "traffic"))

    def fault(self, match: str, kind: str, **plan: Any) -> int:
        """Arm one fault plan and return its id."""
        return int(self.send("POST", "faults", {"match": match, "kind": kind, **plan})["ids"][0])

    def disarm(self, fault_id: int | None = None) -> int:
        """Remove one plan or all, letting go of held calls and return how many."""
        return int(self.send("DELETE", "faults", **({} if fault_id is None else {"id": fault_id}))["removed"])

    def faults(self) -> list[dict[str, Any]]:
        """Return all plans with `seen` and `fired`."""
        return list(self.send("GET", "faults")["faults"])

    def fired(self, fault_id: int) -> int:
        """Return how often a plan fired."""
        return sum(int(plan["fired"]) for plan in self.faults() if plan["id"] == fault_id)

    def held(self, fault_id: int) -> int:
        """Return how many calls a plan holds back now."""
        return sum(int(plan["held"]) for plan in self.faults() if plan["id"] == fault_id)

    def expire_tokens(self) -> None:
        """Let all access tokens expire."""
        self.send("POST", "tokens/expire")

    def revoke_tokens(self) -> None:
        """Let no refresh token work any more."""
        self.send("POST", "tokens/revoke")

    def issue_token(self) -> dict[str, str]:
        """Return a further `access_token` and the current `refresh_token`."""
        return dict(self.send("POST", "tokens/issue"))

    def issue_code(self) -> str:
        """Return an authorization code, good once and for 30 portal seconds."""
        return str(self.send("POST", "tokens/code")["code"])

    def licence(self, **features: bool) -> None:
        """Switch `rest_offline_extended`, `rest_auth_connector`, `commercial`."""
        self.send("POST", "licence", features)

    def user(self, **values: Any) -> None:
        """Set `admin` or `user_id`."""
        self.send("POST", "user", values)

    def app(self, **values: bool | str) -> dict[str, Any]:
        """Set `installed`, `scopes`, `address`, `handler`; `removed` uninstalls or installs, `updated` updates it."""
        return dict(self.send("POST", "app", values))

    def limits(self, **values: Any) -> dict[str, Any]:
        """Set `drain`, `holds`, `off`, `operating_limit`, `costs`, `charge`, `reset`."""
        return dict(self.send("POST", "limits", values))

    def clock(self, **values: float) -> dict[str, float]:
        """Set `advance_seconds` or `rate` and return `now` and `rate`."""
        return dict(self.send("POST", "clock", values))

    def drop_subscriptions(self, event: str = "") -> int:
        """Remove bindings silently and return how many."""
        return int(self.send("POST", "subscriptions/drop", {"event": event})["dropped"])

    def drop_records(self) -> int:
        """Delete every record of the queue and return how many."""
        return int(self.send("POST", "records/drop")["dropped"])

    def marks(self, **which: Any) -> int:
        """Mark free records as failed: `connector`, `ids`, `count` and return how many."""
        return int(self.send("POST", "marks", which)["nacked"])

    def steal(self, **which: Any) -> dict[str, Any]:
        """Move records to a fresh process id: `connector`, `process_id` or `ids`, `count`."""
        return dict(self.send("POST", "steal", which))

    def quirks(self, **values: Any) -> dict[str, Any]:
        """Change what the vendor leaves open and return all choices."""
        return dict(self.send("POST", "quirks", values))

    def state(self) -> dict[str, Any]:
        """Return counts of records, objects and requests, bucket, bindings, clock."""
        return dict(self.send("GET", "state"))

    def records(self) -> list[dict[str, Any]]:
        """Return every record of every connector."""
        return list(self.send("GET", "records")["records"])

    def objects(self, entity: str | None = None, *, since_changes: bool = False) -> list[dict[str, Any]]:
        """Return objects as their get method returns them, deleted ones included."""
        query = {"since_changes": int(since_changes), **({"entity": entity} if entity else {})}
        return list(self.send("GET", "objects", **query)["objects"])

    def history(self, after: int = 0) -> Iterator[dict[str, Any]]:
        """Yield what happened to records since number `after`, over all pages."""
        return self._entries("history", after)

    def changes(self, after: int = 0) -> Iterator[dict[str, Any]]:
        """Yield what happened to objects since number `after`, over all pages."""
        return self._entries("changes", after)

    def requests(self, after: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the newest calls since number `after`, over all pages."""
        return self._entries("requests", after)

    def _entries(self, path: str, after: int) -> Iterator[dict[str, Any]]:
        more = True
        while more:
            page = self.send("GET", path, after=after)
            yield from page["entries"]
            after, more = int(page["after"]), bool(page["more"])


def wait_until(condition: Any, seconds: float = 10.0, pause_seconds: float = 0.02) -> None:
    """Wait for a condition to hold; raise EmulatorError when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise EmulatorError(f"a condition did not hold within {seconds} s")
        time.sleep(pause_seconds)
