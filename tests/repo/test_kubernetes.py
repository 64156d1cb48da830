"""`deploy/kubernetes`: every manifest fits its schema, is confined, and names what the code has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml

from b24offline import contract
from b24offline.config import Config, variables

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text("utf-8"))
FILES = sorted(path for path in FOLDER.rglob("*.yaml") if path.name != "kustomization.yaml")
APART = {
    "migrate.yaml": "created by hand, before a version that asks for it",
    "push.yaml": "only where B24_PUSH_URL is set: the process would not start",
}
CALL_PORTALS = {"worker", "settle", "push"}
VERSIONS = ("1.29", "1.34")
"""Kubernetes versions whose schemas the manifests must fit: about the oldest that is served, and a new one."""


def documents() -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in FILES:
        for document in yaml.safe_load_all(path.read_text("utf-8")):
            yield path, document


DOCUMENTS = list(documents())
PODS = [
    (path.name, document["spec"]["template"]["spec"])
    for path, document in DOCUMENTS
    if document["kind"] in {"Deployment", "Job"}
]
CONTAINERS = [(f"{name} {one['name']}", pod, one) for name, pod in PODS for one in pod["containers"]]
CONTAINER = pytest.mark.parametrize(
    ("pod", "container"), [each[1:] for each in CONTAINERS], ids=[e[0] for e in CONTAINERS]
)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", [pytest.param(one, id=f"{p.name} {one['kind']}") for p, one in DOCUMENTS])
def test_manifest_fits_its_schema(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_kustomization_lists_every_manifest() -> None:
    assert sorted(KUSTOMIZATION["resources"]) == sorted(path.name for path in FILES if path.name not in APART)


@CONTAINER
def test_container_is_confined(pod: dict[str, Any], container: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"limits", "requests"} == set(container["resources"])


@CONTAINER
def test_container_gets_settings_that_exist(pod: dict[str, Any], container: dict[str, Any]) -> None:
    known = {
        name for one in variables(Config) for name in ((one.name, f"{one.name}_FILE") if one.secret else (one.name,))
    }
    given = {one["name"] for one in container["env"]}
    assert given <= known
    files = {one["value"] for one in container["env"] if one["name"].endswith("_FILE") and "secrets" in one["value"]}
    [secret] = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    if "items" in secret:
        assert files == {f"/run/secrets/b24offline/{item['path']}" for item in secret["items"]}


def test_settings_file_names_settings_that_exist() -> None:
    lines = (FOLDER / "settings.env").read_text("utf-8").splitlines()
    named = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    assert named <= {one.name for one in variables(Config) if not one.secret}


def test_workers_read_every_queue_of_ours() -> None:
    read = {
        queue
        for _, _, container in CONTAINERS
        for option, value in zip(container["args"], container["args"][1:], strict=False)
        if option == "-Q"
        for queue in value.split(",")
    }
    assert read == set(contract.QUEUES)


def test_beat_is_one_and_knows_no_secret_but_the_broker() -> None:
    [beat] = [one for path, one in DOCUMENTS if path.name == "beat.yaml"]
    assert beat["spec"]["replicas"] == 1
    assert beat["spec"]["strategy"] == {"type": "Recreate"}
    [secret] = [volume["secret"] for volume in beat["spec"]["template"]["spec"]["volumes"] if "secret" in volume]
    assert [item["key"] for item in secret["items"]] == ["redis_url"]


def test_disruption_budgets_select_pods_that_exist() -> None:
    labels = [one["spec"]["template"]["metadata"]["labels"] for _, one in DOCUMENTS if one["kind"] == "Deployment"]
    budgets = [one["spec"]["selector"]["matchLabels"] for _, one in DOCUMENTS if one["kind"] == "PodDisruptionBudget"]
    assert budgets
    assert all(budget in labels for budget in budgets)


@CONTAINER
def test_pod_may_reach_what_its_settings_name(pod: dict[str, Any], container: dict[str, Any]) -> None:
    reached = allowed(container["name"], "egress")
    names = {one["name"] for one in container["env"]}
    assert {53, 6379} <= reached
    assert ("B24_DATABASE_URL_FILE" in names) == (5432 in reached)
    assert (container["name"] in CALL_PORTALS) == (443 in reached)


@CONTAINER
def test_pod_is_reached_at_its_ports_alone(pod: dict[str, Any], container: dict[str, Any]) -> None:
    ports = {one["containerPort"] for one in container.get("ports", ())}
    assert allowed(container["name"], "ingress") == ports


def test_exporter_knows_no_secret_of_an_application_and_runs_once() -> None:
    [exporter] = [one for path, one in DOCUMENTS if path.name == "metrics.yaml" and one["kind"] == "Deployment"]
    assert exporter["spec"]["replicas"] == 1
    [pod] = [pod for name, pod in PODS if name == "metrics.yaml"]
    [secret] = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    assert {item["key"] for item in secret["items"]} == {"redis_url", "database_url", "secret_key"}
    [container] = pod["containers"]
    annotations = exporter["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(container["ports"][0]["containerPort"])


def test_services_lead_to_ports_that_pods_have() -> None:
    services = [one for _, one in DOCUMENTS if one["kind"] == "Service"]
    ports = {container["name"]: container.get("ports", ()) for _, _, container in CONTAINERS}
    assert {one["metadata"]["name"] for one in services} == {"metrics", "push"}
    for one in services:
        component = one["spec"]["selector"]["app.kubernetes.io/component"]
        [target] = [port["targetPort"] for port in one["spec"]["ports"]]
        assert target in {port["name"] for port in ports[component]}


def allowed(component: str, way: str) -> set[int]:
    """Return the ports that the policies allow a pod, by "egress" or "ingress"."""
    return {
        port["port"]
        for _, one in DOCUMENTS
        if one["kind"] == "NetworkPolicy" and _selects(one["spec"]["podSelector"], component)
        for rule in one["spec"].get(way, ())
        for port in rule["ports"]
    }


def _selects(selector: dict[str, Any], component: str) -> bool:
    labels = {"app.kubernetes.io/name": "b24offline", "app.kubernetes.io/component": component}
    exact = selector.get("matchLabels", {})
    among = selector.get("matchExpressions", [])
    return all(labels.get(key) == value for key, value in exact.items()) and all(
        labels.get(one["key"]) in one["values"] for one in among
    )
