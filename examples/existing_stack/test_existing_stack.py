"""Both stacks on one broker. What this needs beside the fixtures: EXAMPLE_BROKER_URL for another broker than theirs."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from b24offline.supervisor import child_environ

HERE = Path(__file__).parent
SHOP = [sys.executable, "-m", "celery", "-A", "shop"]


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    return tmp_path_factory.mktemp("notes") / "notes.txt"


@pytest.fixture(scope="module")
def b24_settings(notes):
    settings = {"B24_PIPELINES": "bridge", "B24_EXTERNAL_QUEUES": "celery", "SHOP_NOTES": str(notes)}
    broker = os.environ.get("EXAMPLE_BROKER_URL")
    return settings | ({"CELERY_BROKER_URL": broker} if broker else {})


@pytest.fixture
def shop(b24_deployment, notes, tmp_path):
    broker = b24_deployment.settings.get("CELERY_BROKER_URL") or b24_deployment.settings["B24_REDIS_URL"]
    environ = {**os.environ, "SHOP_BROKER_URL": broker, "SHOP_NOTES": str(notes)}

    def run(*command):
        return subprocess.run([*SHOP, *command], cwd=HERE, env=environ, capture_output=True, text=True, check=False)

    with open(tmp_path / "shop.log", "w") as log:
        started = [
            subprocess.Popen([*SHOP, *command], cwd=HERE, env=environ, stdout=log, stderr=log)
            for command in (("worker", "-n", "shop@%h", "-Q", "celery", "-c", "1"), ("beat", "-s", str(tmp_path / "b")))
        ]
        run.worker = started[0]
        yield run
        for process in started:
            process.terminate()
        for process in started:
            process.wait(60)
    print((tmp_path / "shop.log").read_text()[-4000:])


@pytest.fixture
def flower(b24_deployment, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = child_environ(b24_deployment.settings)
    command = [sys.executable, "-m", "celery", "-A", "b24offline", "flower", f"--port={port}", "--address=127.0.0.1"]
    with open(tmp_path / "flower.log", "w") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)

        def workers():
            try:
                rows = requests.get(f"http://127.0.0.1:{port}/workers?json=1", timeout=10).json()["data"]
            except (requests.RequestException, ValueError):
                return set()
            return {row["hostname"].partition("@")[0] for row in rows}

        yield workers
        process.terminate()
        process.wait(60)


def test_two_stacks_on_one_broker(b24_portal, b24_deployment, shop, flower, notes):
    def noted(line):
        return notes.exists() and line in notes.read_text().splitlines()

    # The shop's own beat and worker work; ours hand a step over by name, and go on after it.
    b24_deployment.until(lambda: noted("stocktake"), "the shop's beat and worker run")
    b24_portal.deals.update(5)
    b24_deployment.drain()
    assert noted("announced crm_deal 5")
    assert noted("concluded crm_deal 5")

    # The shop hands work to us by name.
    assert shop("call", "tasks.order", "--args=[7]", "--queue=celery").returncode == 0
    b24_deployment.until(lambda: noted("took order 7"), "our worker takes the order")

    # One Flower shows both.
    b24_deployment.until(lambda: {"shop", "worker0"} <= flower(), "Flower shows both workers")

    # Its remote control reaches its own workers, purging and ending it touches nothing of ours.
    assert "worker0" not in shop("inspect", "ping").stdout
    assert shop("purge", "-f", "-Q", "celery").returncode == 0
    shop("control", "shutdown")
    b24_deployment.until(lambda: shop.worker.poll() is not None, "the shop's worker ends")
    assert all(process.alive for process in b24_deployment.processes)
    b24_portal.deals.update(6)
    b24_deployment.until(b24_deployment.services.ledger.open_batches, "ours still polls")
