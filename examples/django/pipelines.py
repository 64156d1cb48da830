"""Keep deals in a model of Django. `DJANGO_SETTINGS_MODULE=project` is all that a worker needs.

Celery sets Django up before the worker imports this module, and closes its connections between tasks.
"""

from shop.models import Deal

from b24offline.pipeline import fetch, load, route, step


@step
def save(reference):
    """Write the deal. Of two runs the one that read later wins."""
    snapshot = load(reference)
    number = snapshot.object.object_id
    if snapshot.data is None:
        Deal.objects.filter(number=number).delete()
        return
    Deal.objects.get_or_create(number=number)
    newer = Deal.objects.filter(number=number, read_ms__lt=snapshot.read_ms)
    newer.update(title=snapshot.data["TITLE"], read_ms=snapshot.read_ms)


@route("ONCRMDEALADD", "ONCRMDEALUPDATE", "ONCRMDEALDELETE")
def deal_saved(event):
    """Read the deal as it is now, then write it."""
    return fetch.s() | save.s()
