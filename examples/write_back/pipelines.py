"""Enrich each new lead with the company that it came from, and write that back into the portal.

The write carries our connector, so the portal queues no ONCRMLEADUPDATE for us, and the pipeline does not start again.
"""

from b24offline.pipeline import current, fetch, load, route, step


@step
def enrich(reference):
    """Put the name of the lead's company into its comments."""
    lead = load(reference).data
    if lead is None or not lead["COMPANY_ID"]:
        return
    company = current().client.call("crm.company.get", {"id": lead["COMPANY_ID"]})
    fields = {"COMMENTS": f"of {company['TITLE']}"}
    current().client.call("crm.lead.update", {"id": reference["object_id"], "fields": fields})


@route("ONCRMLEADADD", "ONCRMLEADUPDATE")
def lead_enriched(event):
    """Read the lead as it is now, then enrich it."""
    return fetch.s() | enrich.s()
