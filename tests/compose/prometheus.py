"""What the Prometheus of a deployment says, by its published port."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from typing import Any


class Prometheus:
    """Asks the API of the one on a port of this machine. Raises OSError while it is away."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/"

    def _data(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"{self._url}{path}?{urllib.parse.urlencode(query)}", timeout=30) as answer:
            return json.load(answer)["data"]

    def values(self, expression: str) -> list[float]:
        """Return the values of an expression now."""
        return [float(series["value"][1]) for series in self._data("query", query=expression)["result"]]

    def alerts(self) -> dict[str, dict[str, str]]:
        """Return the alerts that fire, by name, with their annotations."""
        found = self._data("alerts")["alerts"]
        return {one["labels"]["alertname"]: one["annotations"] for one in found if one["state"] == "firing"}

    def rules(self) -> int:
        """Return how many alerting rules it has loaded."""
        return sum(len(group["rules"]) for group in self._data("rules", type="alert")["groups"])
