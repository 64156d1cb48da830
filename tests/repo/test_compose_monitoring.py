"""The profile "monitoring" of compose.yaml: who reaches whom, which secrets the exporter has, what Prometheus reads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from tests.support.prometheus import promtool

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = CHECKOUT / "deploy" / "prometheus"
COMPOSED: dict[str, Any] = yaml.safe_load((CHECKOUT / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSED["services"]
PROFILES = {"flower", "monitoring", "push", "rabbitmq"}


def shares(service: str) -> set[str]:
    """Return the other services on the networks of one, but those of its published port."""
    of = {name: set(one.get("networks", ["default"])) - {"outside"} for name, one in SERVICES.items()}
    return {name for name, networks in of.items() if networks & of[service]} - {service}


def test_profiles_are_those_of_the_documents() -> None:
    assert {profile for one in SERVICES.values() for profile in one.get("profiles", ())} == PROFILES
    text = (CHECKOUT / "docs" / "deploy.md").read_text("utf-8")
    assert [name for name in PROFILES if f"| `{name}` |" not in text] == []


def test_exporter_reaches_the_stores_and_nothing_outside() -> None:
    assert shares("metrics") == {"valkey", "rabbitmq", "postgres", "prometheus"}
    assert all(COMPOSED["networks"][name]["internal"] for name in SERVICES["metrics"]["networks"])
    assert shares("prometheus") == {"metrics"}


def test_exporter_gets_no_secret_of_an_application() -> None:
    assert set(SERVICES["metrics"]["secrets"]) == {"redis_url", "broker_url", "database_url", "secret_key"}
    assert SERVICES["metrics"]["environment"]["B24_PORTAL_URL"] == ""
    assert "secrets" not in SERVICES["prometheus"]


def test_prometheus_scrapes_the_exporter_and_reads_our_rules(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "prometheus")
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    [job] = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["metrics:9924"]}]
    assert config["rule_files"] == ["rules.yml"]
    said = promtool("check", "config", str(tmp_path / "prometheus" / "prometheus.yml"))
    assert "rules found" in said
