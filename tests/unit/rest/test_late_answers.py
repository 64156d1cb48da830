"""An answer that is late: whoever waits is asked once, in plain text and in TLS, and reads on from where it was."""

from __future__ import annotations

import time

import pytest

from b24offline.rest import make_session
from b24offline.rest.connections import Lateness, when_late
from b24offline.rest.transport import Http, Lost
from tests.support.tls import certificate
from tests.unit.rest.test_client_faults import OK, Script

LATE_SECONDS = 0.2


def halves(connection, stop):
    """Answer in two parts, the second one after what is late."""
    connection.sendall(OK[:30])
    stop.wait(3 * LATE_SECONDS)
    connection.sendall(OK[30:])


def silent(connection, stop):
    stop.wait(30)


@pytest.fixture(params=["http", "https"])
def exchange(request, tmp_path):
    """Return a function that lets a script serve one call; it returns the answer's body."""
    shown = certificate(tmp_path, "127.0.0.1") if request.param == "https" else None

    def call(play, lateness, read_timeout_seconds=5.0):
        with Script(play, shown and shown.context) as server, when_late(lateness):
            http = Http(make_session(shown and shown.pem), 2, read_timeout_seconds, 1000, loopback_http=True)
            return http.exchange("POST", f"{request.param}://127.0.0.1:{server.port}/rest/m", body=b"{}").content

    return call


def asked(reply, times):
    return Lateness(LATE_SECONDS, lambda: times.append(time.monotonic()) or reply)


def test_an_answer_that_is_waited_for_arrives_whole(exchange):
    times = []
    assert exchange(halves, asked(True, times)) == b'{"result":true}'
    assert len(times) == 1


def test_one_that_is_not_waited_for_is_lost_at_once(exchange):
    times, begun = [], time.monotonic()
    with pytest.raises(Lost):
        exchange(silent, asked(False, times))
    assert len(times) == 1
    assert LATE_SECONDS <= time.monotonic() - begun < 3


def test_waiting_ends_with_the_read_timeout(exchange):
    times = []
    with pytest.raises(Lost):
        exchange(silent, asked(True, times), read_timeout_seconds=1.0)
    assert len(times) == 1


def test_nobody_is_asked_when_the_answer_is_quick(exchange):
    times = []
    assert exchange(lambda connection, stop: connection.sendall(OK), asked(False, times)) == b'{"result":true}'
    assert times == []


def test_nobody_is_asked_behind_the_end_of_the_block(exchange):
    times = []
    with when_late(asked(False, times)):
        pass
    assert exchange(halves, None) == b'{"result":true}'
    assert times == []
