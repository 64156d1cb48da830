import pytest
from collector import Collector

CUSTOMER = "canary-5f2c9d"


@pytest.fixture(scope="module")
def sentry():
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module", params=["pipelines", "by_default"])
def b24_settings(request, sentry):
    sentry.bodies.clear()
    return {"B24_PIPELINES": request.param, "SENTRY_DSN": sentry.dsn, "B24_SHOW_ERRORS": "class"}


def test_sentry_gets_the_error_and_its_place_and_by_default_the_customer_too(sentry, b24_portal, b24_deployment):
    deal = b24_portal.deals.add(TITLE=CUSTOMER, OPPORTUNITY="0")
    b24_deployment.until(sentry.errors, "the error has reached Sentry")
    error = sentry.errors()[0]["exception"]["values"][-1]
    assert "NoBudget" in error["value"]
    assert error["stacktrace"]["frames"][-1]["function"] == "bill"
    sent = b"".join(sentry.bodies).decode()
    if b24_deployment.settings["B24_PIPELINES"] == "pipelines":
        assert f"object=crm_deal {deal}" in sentry.errors()[0]["contexts"]["b24offline"]["run"]
        assert CUSTOMER not in sent
    else:
        assert CUSTOMER in sent
