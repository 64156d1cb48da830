"""The same without the connector: what not to do. Each write is a change of the lead, and starts the pipeline again."""

from b24offline.pipeline import current, fetch, route, step


@step
def enrich_and_wake(reference):
    """Write to the lead so that the portal queues the change for us, too."""
    fields = {"COMMENTS": "seen"}
    current().client.call("crm.lead.update", {"id": reference["object_id"], "fields": fields}, wake_us=True)


@route("ONCRMLEADADD", "ONCRMLEADUPDATE")
def lead_loops(event):
    """Run again for its own write, for ever."""
    return fetch.s() | enrich_and_wake.s()
