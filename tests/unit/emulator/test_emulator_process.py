"""The emulator as a process: start, end, arguments."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from b24offline.emulator import EmulatorError, EmulatorProcess, wait_until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_cleanly_while_calls_hang(number):
    with EmulatorProcess(objects=0) as emulator, ThreadPoolExecutor() as pool:
        process = emulator._process
        control = emulator.control()
        fault = control.fault("user.admin", "hang", seconds=60)
        pool.submit(lambda: requests.get(emulator.rest + "user.admin", timeout=100))
        wait_until(lambda: control.fired(fault) == 1, 60)
        control.close()
        begun = time.monotonic()
        process.send_signal(number)
        assert process.wait(60) == 0
        assert time.monotonic() - begun < 40, "the call hangs for 60 s"


def test_ends_with_its_parent():
    code = (
        "import sys\n"
        "from b24offline.emulator import EmulatorProcess\n"
        "print(EmulatorProcess(objects=0).start().hello['url'], flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    url = parent.stdout.readline().decode().strip()
    assert requests.get(url + "/control/state", timeout=5).status_code == 200
    parent.kill()
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()

    def gone():
        try:
            requests.get(url + "/control/state", timeout=5)
        except requests.ConnectionError:
            return True
        return False

    wait_until(gone, 60)


def test_says_why_it_did_not_start():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(EmulatorError, match="did not start"):
        EmulatorProcess(port=taken.getsockname()[1]).start()


def test_takes_given_credentials_and_clock():
    arguments = ["--client-id", "local.mine", "--client-secret", "s", "--refresh-token", "r"]
    with EmulatorProcess(objects=0, time_scale=1000, arguments=arguments) as emulator:
        assert (emulator.client_id, emulator.hello["refresh_token"]) == ("local.mine", "r")
        params = {
            "grant_type": "refresh_token",
            "client_id": "local.mine",
            "client_secret": "s",
            "refresh_token": "r",
        }
        assert "access_token" in requests.get(emulator.auth_url, params=params, timeout=5).json()
        control = emulator.control()
        first = control.state()["now"]
        wait_until(lambda: control.state()["now"] > first + 100, 60)
        control.close()
