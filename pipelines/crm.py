"""Leads, deals, contacts, companies and smart-process items, mirrored."""

from __future__ import annotations

from celery.canvas import Signature

from b24offline.pipeline import Event, route, upsert_all


@route("ONCRMLEADADD", "ONCRMLEADUPDATE", "ONCRMLEADDELETE", mirrors="crm_lead", bulk=50)
def lead_changed(event: Event) -> Signature:
    """Mirror a lead that was added, changed or deleted."""
    return upsert_all.s()


@route("ONCRMDEALADD", "ONCRMDEALUPDATE", "ONCRMDEALDELETE", "ONCRMDEALMOVETOCATEGORY", mirrors="crm_deal", bulk=50)
def deal_changed(event: Event) -> Signature:
    """Mirror a deal that was added, changed, moved or deleted."""
    return upsert_all.s()


@route("ONCRMCONTACTADD", "ONCRMCONTACTUPDATE", "ONCRMCONTACTDELETE", mirrors="crm_contact", bulk=50)
def contact_changed(event: Event) -> Signature:
    """Mirror a contact that was added, changed or deleted."""
    return upsert_all.s()


@route("ONCRMCOMPANYADD", "ONCRMCOMPANYUPDATE", "ONCRMCOMPANYDELETE", mirrors="crm_company", bulk=50)
def company_changed(event: Event) -> Signature:
    """Mirror a company that was added, changed or deleted."""
    return upsert_all.s()


@route("ONCRMDYNAMICITEMADD", "ONCRMDYNAMICITEMUPDATE", "ONCRMDYNAMICITEMDELETE", mirrors="crm_item", bulk=50)
def item_changed(event: Event) -> Signature:
    """Mirror an item of a smart process that was added, changed or deleted."""
    return upsert_all.s()
