"""Fixtures of pytest-celery, with our image, our brokers and what stands around them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pytest_celery import CeleryTestSetup, CeleryTestWorker, CeleryWorkerCluster
from pytest_docker_tools import container, fxtr

from tests.compose.engine import Failed, run
from tests.smoke.nodes import (
    IMAGE,
    POSTGRES_IMAGE,
    RABBITMQ_IMAGE,
    VALKEY_IMAGE,
    Beat,
    Ledger,
    Portal,
    Postgres,
    RabbitMQ,
    Setup,
    Shop,
    Valkey,
    Worker,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOP = Path(__file__).resolve().parents[2] / "examples" / "existing_stack"
KEY = "c21va2Utc21va2Utc21va2Utc21va2Utc21va2UtISE="
CLIENT_SECRET, REFRESH_TOKEN = "smoke-client-secret", "smoke-refresh-token"


@pytest.fixture(scope="session", autouse=True)
def image() -> str:
    """Build our image once."""
    try:
        run("docker", "info", timeout_seconds=30)
    except (Failed, FileNotFoundError) as error:
        pytest.fail(f"No Docker engine answers; start one. {error}")
    run("docker", "build", "--network", "host", "--tag", IMAGE, ".", timeout_seconds=1200)
    return IMAGE


@pytest.fixture
def pipelines(request: pytest.FixtureRequest) -> str:
    """Name the modules of pipelines; a test names others by parametrizing it."""
    return str(getattr(request, "param", "b24offline.pipelines"))


portal_container = container(
    image=IMAGE,
    command=[
        *("python", "-m", "b24offline.emulator", "--port", "8000", "--objects", "60", "--client-id", "smoke"),
        *("--client-secret", CLIENT_SECRET, "--refresh-token", REFRESH_TOKEN),
    ],
    network="{default_pytest_celery_network.name}",
    init=True,
    wrapper_class=Portal,
)

ledger = container(
    image=VALKEY_IMAGE,
    command=Ledger.command(),
    network="{default_pytest_celery_network.name}",
    ports={"6379/tcp": None},
    wrapper_class=Ledger,
    timeout=60,
)

database = container(
    image=POSTGRES_IMAGE,
    # UTF-8, as in compose.yaml: of a database that names no encoding psycopg returns bytes.
    environment={"POSTGRES_PASSWORD": "postgres", "LANG": "C.UTF-8"},
    network="{default_pytest_celery_network.name}",
    wrapper_class=Postgres,
    timeout=120,
)

default_rabbitmq_broker = container(
    image=RABBITMQ_IMAGE,
    ports=fxtr("default_rabbitmq_broker_ports"),
    network="{default_pytest_celery_network.name}",
    wrapper_class=RabbitMQ,
    timeout=120,
)

default_worker_container = container(
    image=IMAGE,
    environment=fxtr("default_worker_env"),
    command=fxtr("default_worker_command"),
    network_mode="container:{portal_container.id}",
    volumes={str(SHOP): {"bind": "/shop", "mode": "ro"}},
    init=True,
    wrapper_class=Worker,
    timeout=120,
)

beat_container = container(
    image=IMAGE,
    environment=fxtr("default_worker_env"),
    command=Beat.command(),
    network_mode="container:{portal_container.id}",
    volumes={str(SHOP): {"bind": "/shop", "mode": "ro"}},
    init=True,
    wrapper_class=Beat,
    timeout=120,
)

shop_container = container(
    image=IMAGE,
    environment=fxtr("shop_environment"),
    command=Shop.command(),
    network="{default_pytest_celery_network.name}",
    volumes={str(SHOP): {"bind": "/shop", "mode": "ro"}},
    working_dir="/shop",
    init=True,
    wrapper_class=Shop,
    timeout=120,
)


@pytest.fixture
def default_redis_broker_cls() -> type[Valkey]:
    """Take Valkey for Redis."""
    return Valkey


@pytest.fixture
def default_worker_container_cls() -> type[Worker]:
    """Take our image as the worker."""
    return Worker


@pytest.fixture
def celery_setup_cls() -> type[CeleryTestSetup]:
    """Take an application that knows our remote control."""
    return Setup


@pytest.fixture
def celery_backend_cluster() -> None:
    """Have no result backend: the ledger keeps outcomes."""


@pytest.fixture
def celery_backend_cluster_config() -> None:
    """Have no result backend."""


@pytest.fixture
def default_worker_env(
    celery_worker_cluster_config: dict[str, Any], ledger: Ledger, database: Postgres, pipelines: str
) -> dict[str, str]:
    """Set what a deployment beside the emulated portal needs; minutes become seconds."""
    return {
        "CELERY_BROKER_URL": ";".join(celery_worker_cluster_config["celery_broker_cluster_config"]["urls"]),
        "B24_REDIS_URL": ledger.url,
        "B24_DATABASE_URL": database.url(),
        "B24_SECRET_KEY": KEY,
        "B24_PORTAL_NAME": "demo",
        "B24_PORTAL_URL": "http://127.0.0.1:8000/rest/",
        "B24_AUTH_URL": "http://127.0.0.1:8000/oauth/token/",
        "B24_LOOPBACK_HTTP": "true",
        "B24_CLIENT_ID": "smoke",
        "B24_CLIENT_SECRET": CLIENT_SECRET,
        "B24_REFRESH_TOKEN": REFRESH_TOKEN,
        "B24_POLL_INTERVAL_MAX_SECONDS": "2",
        "B24_PIPELINES": pipelines,
        "B24_EXTERNAL_QUEUES": "celery",
        "B24_DATA_DIR": "/tmp/data",
        "B24OFFLINE_TEST_TIME_SCALE": "0.1",
        "SHOP_NOTES": "/tmp/notes",
        "PYTHONPATH": "/shop",
    }


@pytest.fixture
def shop_environment(default_worker_env: dict[str, str]) -> dict[str, str]:
    """Give the shop the broker, and nothing of ours."""
    return {"SHOP_BROKER_URL": default_worker_env["CELERY_BROKER_URL"], "SHOP_NOTES": "/tmp/notes"}


@pytest.fixture
def celery_worker_cluster(
    celery_worker: CeleryTestWorker, beat_container: Beat, celery_setup_app: Any
) -> Iterator[CeleryWorkerCluster]:
    """Put beat beside the worker."""
    cluster = CeleryWorkerCluster(celery_worker, CeleryTestWorker(beat_container, celery_setup_app))
    yield cluster
    cluster.teardown()


@pytest.fixture
def portal(portal_container: Portal, default_worker_env: dict[str, str], celery_setup: CeleryTestSetup) -> Portal:
    """Return the portal once its events are subscribed."""
    portal_container.environment = default_worker_env
    wait_for(lambda: portal_container.ask("bound"), "the events are subscribed", 90, celery_setup.worker.logs)
    return portal_container
