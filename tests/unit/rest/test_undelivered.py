"""A request that was given up is not delivered long after: the system stops sending what nobody confirms."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from b24offline import errors
from b24offline.rest import Http, RestClient, make_session
from tests.unit.rest.test_client_faults import OK, Script, answering

BODY_BYTES = 8 << 20
"""More than the buffers of both ends hold, so that a part waits in the sender's until the receiver reads."""


def sockets_of(session):
    """Return the sockets that wait in the session's pools."""
    pools = session.get_adapter("http://").poolmanager.pools
    connections = [one for key in pools.keys() for one in pools[key].pool.queue if one]  # noqa: SIM118 - not a dict
    return [one.sock for one in connections]


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has the option")
def test_a_connection_tells_the_system_when_to_stop():
    session = make_session(undelivered_seconds=1.5)
    with Script(answering(OK)) as server:
        assert server.client(session).call("m", {}, token="t") is True
        (sock,) = sockets_of(session)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1500
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        session.close()


def received_late(undelivered_seconds: float, resumes_after: float) -> int:
    """Send a large request to a peer that reads nothing for a while. Return how many bytes it gets in the end."""
    given_up, got = threading.Event(), []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def accept() -> None:
            connection, _ = listener.accept()
            with connection:
                given_up.wait(60)
                time.sleep(resumes_after)  # the time that passes is what is tested
                connection.settimeout(20)
                try:
                    while piece := connection.recv(1 << 16):
                        got.append(len(piece))
                except ConnectionResetError:
                    pass

        peer = threading.Thread(target=accept)
        peer.start()
        session = make_session(undelivered_seconds=undelivered_seconds)
        client = RestClient("acme", f"http://127.0.0.1:{port}/rest/", Http(session, 2, 0.5, 1000, loopback_http=True))
        with pytest.raises(errors.UnknownAnswer):
            client.call("m", {"text": "x" * BODY_BYTES}, token="t")
        given_up.set()
        peer.join(60)
    return sum(got)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has the option")
def test_what_was_given_up_is_not_delivered_later():
    in_time = received_late(1.0, 4.0)  # what the receiver's buffer took before
    assert in_time * 4 < received_late(60.0, 4.0)
