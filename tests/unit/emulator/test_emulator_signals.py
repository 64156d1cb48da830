"""The signal ONOFFLINEEVENT."""

from __future__ import annotations

import http.server
import threading
from urllib.parse import parse_qs

import pytest

from b24offline.emulator import wait_until
from tests.unit.emulator.emulator_bench import START, PortalBench


def test_signals_wait_for_the_least_pause():
    bench = PortalBench.new("ONCRMDEALADD")
    bench.ok("event.bind", event="ONOFFLINEEVENT", handler="http://example.invalid/", options={"minTimeout": 100})
    bench.deals(2)
    wait_until(lambda: bench.site.push.counts.refused == 1, 60)
    bench.deals(2)
    passed = []
    bench.site.later.add(START, lambda: passed.append(True))
    wait_until(lambda: passed, 60)
    assert (bench.site.later.waiting, bench.site.push.counts.refused) == (1, 1)
    bench.wait(100)
    wait_until(lambda: bench.site.push.counts.refused == 2, 60)


@pytest.fixture
def heard():
    """The forms that a handler on this machine has received, with its address in front."""
    forms = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            forms.append(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/signal", forms
    server.shutdown()
    server.server_close()


def test_a_signal_is_sent_when_records_arrive(heard):
    handler, forms = heard
    bench = PortalBench.new("ONCRMDEALADD")
    bench.ok("event.bind", event="ONOFFLINEEVENT", handler=handler, options={"minTimeout": 100})
    bench.deals(5)
    wait_until(lambda: len(forms) == 1, 60)
    assert forms[0]["event"] == ["ONOFFLINEEVENT"]
    assert forms[0]["auth[member_id]"] == [bench.portal.member_id]
    bench.deals(5)
    bench.wait(100)
    wait_until(lambda: len(forms) == 2, 60)
    wait_until(lambda: bench.site.push.counts.delivered == 2, 60)


def test_news_about_the_application_reaches_what_was_bound(heard):
    handler, forms = heard
    bench = PortalBench.new("ONCRMDEALADD")
    for event in ("ONAPPUNINSTALL", "ONAPPUPDATE"):
        bench.ok("event.bind", event=event, handler=handler)
    bench.site.push.update()
    wait_until(lambda: len(forms) == 1, 60)
    assert (forms[0]["event"], len(bench.portal.subscriptions)) == (["ONAPPUPDATE"], 0)
    bench.ok("event.bind", event="ONAPPUNINSTALL", handler=handler)
    bench.site.push.uninstall()
    wait_until(lambda: len(forms) == 2, 60)
    assert forms[1]["event"] == ["ONAPPUNINSTALL"]
    assert forms[1]["auth[application_token]"] == [bench.portal.application_token]
    assert "auth[access_token]" not in forms[1]
    bench.site.push.install(handler)
    wait_until(lambda: len(forms) == 3, 60)
    assert forms[2]["event"] == ["ONAPPINSTALL"]
    assert forms[2]["auth[refresh_token]"] == [bench.portal.tokens.current_refresh_token]
    wait_until(lambda: bench.site.push.counts.answers == {"200": 3}, 60)


def test_an_installation_without_a_handler_tells_nobody():
    bench = PortalBench.new()
    bench.site.push.uninstall()
    bench.site.push.install("")
    assert not bench.portal.account.removed
