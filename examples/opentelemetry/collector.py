"""A collector of traces on loopback: it keeps what it is sent."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """Serve an address for `OTEL_EXPORTER_OTLP_ENDPOINT`; `bodies` are the requests, unpacked."""

    def __init__(self):
        self.bodies = bodies = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                bodies.append(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def spans(self):
        """Return all spans, by their ids."""
        found = []
        for body in list(self.bodies):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                found += [span for scope in resource.scope_spans for span in scope.spans]
        return {span.span_id: span for span in found}

    def steps(self, about):
        """Return the spans of the steps that ran about an object, in the order of their begin."""
        found = [span for span in self.spans().values() if attributes(span).get("b24offline.run", "").endswith(about)]
        return sorted(found, key=lambda span: span.start_time_unix_nano)

    def came_from(self, span):
        """Yield the spans that led to this one, the nearest first."""
        spans = self.spans()
        while span := spans.get(span.parent_span_id):
            yield span


def attributes(span):
    """Return the texts among the attributes of a span."""
    return {each.key: each.value.string_value for each in span.attributes}
