import pytest
from collector import Collector

CUSTOMER = "canary-5f2c9d"
STEPS = ["objects.fetch", "pipelines.check", "pipelines.bill"]


@pytest.fixture(scope="module")
def telemetry():
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def b24_settings(telemetry):
    return {
        "B24_PIPELINES": "pipelines",
        "OTEL_EXPORTER_OTLP_ENDPOINT": telemetry.url,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "B24_SHOW_ERRORS": "class",
    }


def test_each_step_is_a_span_of_one_trace_without_the_customer(telemetry, b24_portal, b24_deployment):
    deal = b24_portal.deals.add(TITLE=CUSTOMER, OPPORTUNITY="0")
    about = f"object=crm_deal {deal}"
    b24_deployment.until(lambda: len(telemetry.steps(about)) >= len(STEPS), "each step has its span")
    fetch, check, bill = telemetry.steps(about)[:3]
    assert [span.name for span in (fetch, check, bill)] == [f"run/b24offline.step.{step}" for step in STEPS]
    assert fetch in telemetry.came_from(check)
    assert [span for span in telemetry.came_from(bill) if span in (fetch, check)] == [check, fetch]
    assert "NoBudget" in bill.status.message
    assert CUSTOMER.encode() not in b"".join(telemetry.bodies)
