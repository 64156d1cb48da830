"""`b24offline metrics`: the exporter for Prometheus."""

from __future__ import annotations

import click

from b24offline import log
from b24offline.cli.output import Refusal, load_runtime


@click.command()
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=9924, show_default=True, help="Port; 0 takes any free one."
)
def metrics(address: str, port: int) -> None:
    """Serve metrics for Prometheus until stopped: /metrics, and /metrics/portal?name=NAME for one portal.

    It reads store, ledger and broker, and calls no portal. It has no login: let only Prometheus reach the address.
    """
    try:
        from b24offline.metrics import Exporter, serve  # noqa: PLC0415 - an extra that few need
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        raise Refusal("prometheus_client is not installed: pip install 'b24offline[metrics]'") from None
    runtime = load_runtime()
    log.configure(runtime.config.log_level, log_format=runtime.config.log_format)
    try:
        server = serve(Exporter(runtime), address, port)
    except OSError as error:
        raise Refusal(f"Cannot listen on {address}:{port}: {error.strerror}.") from None
    click.echo(f"http://{address}:{server.server_port}/metrics")
    server.serve_forever()
