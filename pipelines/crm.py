"""Leads, deals, contacts, companies and smart-process items, mirrored."""

from __future__ import annotations

from celery.canvas import Signature

from b24offline.pipeline import Event, fetch, route, upsert


@route("ONCRMLEADADD", "ONCRMLEADUPDATE", "ONCRMLEADDELETE", mirrors="crm_lead", fused=True)
def lead_changed(event: Event) -> Signature:
    """Mirror a lead that was added, changed or deleted."""
    return fetch.s() | upsert.s()


@route("ONCRMDEALADD", "ONCRMDEALUPDATE", "ONCRMDEALDELETE", "ONCRMDEALMOVETOCATEGORY", mirrors="crm_deal", fused=True)
def deal_changed(event: Event) -> Signature:
    """Mirror a deal that was added, changed, moved or deleted."""
    return fetch.s() | upsert.s()


@route("ONCRMCONTACTADD", "ONCRMCONTACTUPDATE", "ONCRMCONTACTDELETE", mirrors="crm_contact", fused=True)
def contact_changed(event: Event) -> Signature:
    """Mirror a contact that was added, changed or deleted."""
    return fetch.s() | upsert.s()


@route("ONCRMCOMPANYADD", "ONCRMCOMPANYUPDATE", "ONCRMCOMPANYDELETE", mirrors="crm_company", fused=True)
def company_changed(event: Event) -> Signature:
    """Mirror a company that was added, changed or deleted."""
    return fetch.s() | upsert.s()


@route("ONCRMDYNAMICITEMADD", "ONCRMDYNAMICITEMUPDATE", "ONCRMDYNAMICITEMDELETE", mirrors="crm_item", fused=True)
def item_changed(event: Event) -> Signature:
    """Mirror an item of a smart process that was added, changed or deleted."""
    return fetch.s() | upsert.s()
