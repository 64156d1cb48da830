"""Prometheus and promtool, where they are installed: Debian's package `prometheus`, or any release on the PATH."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import pytest
import requests

from b24offline.supervisor import child_environ
from tests.support.ports import free_port
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def binary(name: str) -> str:
    """Return the path of `prometheus` or `promtool`; skip the test where there is none."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: the package prometheus has it")
    return found


def promtool(*words: str, stdin: str | None = None) -> str:
    """Run promtool and return what it says. Fail where it finds something wrong."""
    done = subprocess.run([binary("promtool"), *words], input=stdin, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Exporter:
    """`b24offline metrics` as a process. ``variables``: the settings of a deployment."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        environ = child_environ({**variables, "PYTHONUNBUFFERED": "1"})
        command = [sys.executable, "-m", "b24offline", "metrics", "--port", "0"]
        self._process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        assert self.url, "it did not start"

    @property
    def address(self) -> str:
        """Host and port."""
        return self.url.removeprefix("http://").removesuffix("/metrics")

    def stop(self) -> None:
        """End it; harmless when it has ended."""
        self._process.terminate()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Prometheus:
    """A Prometheus of its own that scrapes one exporter each second. ``rules``: the text of a file of rules."""

    def __init__(self, folder: Path, target: str, rules: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._url = folder, f"http://127.0.0.1:{free_port()}"
        (folder / "rules.yml").write_text(rules or "groups: []\n")
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            f"rule_files: [{folder}/rules.yml]\n"
            "scrape_configs:\n"
            f"  - {{job_name: b24offline, scrape_timeout: 1s, static_configs: [{{targets: ['{target}']}}]}}\n"
        )

    def __enter__(self) -> Self:
        command = [
            binary("prometheus"),
            f"--config.file={self._folder}/prometheus.yml",
            f"--storage.tsdb.path={self._folder}/data",
            f"--web.listen-address={self._url.removeprefix('http://')}",
        ]
        with (self._folder / "log").open("w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._ready, "Prometheus is ready", 60)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def _ready(self) -> bool:
        assert self._process.poll() is None, (self._folder / "log").read_text()
        with suppress(OSError):
            return requests.get(f"{self._url}/-/ready", timeout=5).ok
        return False

    def _data(self, path: str, **query: str) -> Any:
        reply = requests.get(f"{self._url}/api/v1/{path}", params=query, timeout=30).json()
        assert reply["status"] == "success", reply
        return reply["data"]

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        alerts = self._data("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def values(self, expression: str) -> list[float]:
        """Return the values of an expression now; those that are no number left out."""
        found = [float(series["value"][1]) for series in self._data("query", query=expression)["result"]]
        return [value for value in found if not math.isnan(value)]

    def ranges(self, expression: str, begin: float, end: float, step: float) -> list[dict[str, Any]]:
        """Return the series of an expression between two moments in epoch seconds: ``metric`` and ``values``."""
        return list(
            self._data("query_range", query=expression, start=str(begin), end=str(end), step=str(step))["result"]
        )
