import pipelines
from shop.models import Deal

from b24offline.testing import run_pipeline


def test_a_deal_is_a_row():
    ran = run_pipeline("ONCRMDEALUPDATE 70", objects={"crm_deal 70": {"TITLE": "Shelves"}})
    assert (ran.outcome, Deal.objects.get(number="70").title) == ("succeeded", "Shelves")
    assert run_pipeline("ONCRMDEALDELETE 70", pipeline=pipelines.deal_saved).outcome == "succeeded"
    assert not Deal.objects.filter(number="70").exists()


def test_a_worker_writes_rows(b24_portal, b24_deployment):
    b24_portal.deals.update(5, TITLE="Desks")
    b24_portal.deals.delete(6)
    b24_deployment.drain()
    assert Deal.objects.get(number="5").title == "Desks"
    assert not Deal.objects.filter(number="6").exists()
