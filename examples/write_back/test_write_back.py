import pipelines
import pytest

from b24offline.testing import run_pipeline

OBJECTS = {"crm_lead 5": {"COMPANY_ID": "2"}, "crm_company 2": {"TITLE": "Kaya Textil"}}


@pytest.fixture(scope="module", params=["pipelines", "looping"])
def b24_settings(request):
    return {"B24_PIPELINES": request.param}


def test_a_lead_is_enriched_and_nothing_comes_back():
    ran = run_pipeline("ONCRMLEADADD 5", objects=OBJECTS, pipeline=pipelines.lead_enriched)
    assert ran.outcome == "succeeded"
    assert ran.object("crm_lead 5")["COMMENTS"] == "of Kaya Textil"
    assert ran.woken == []


def test_writes_with_the_connector_end_and_others_do_not(b24_portal, b24_deployment):
    lead = b24_portal.leads.add(COMPANY_ID="2")
    if b24_deployment.settings["B24_PIPELINES"] == "pipelines":
        b24_deployment.drain()
        assert b24_portal.calls.count("crm.lead.update") == 1
        assert b24_portal.leads[lead]["COMMENTS"].startswith("of ")
    else:
        b24_deployment.until(lambda: b24_portal.calls.count("crm.lead.update") >= 3, "the pipeline wakes itself")
