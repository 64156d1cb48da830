"""The control API: what a test does to a portal. Reading is in `control_read`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

from b24offline.emulator.server.faults import parse_plan
from b24offline.emulator.state import (
    ACTIONS,
    ADD,
    DELETE,
    ENTITIES,
    FREE,
    ITEM_TYPES,
    UPDATE,
    Account,
    Selection,
    parse_traffic,
)

if TYPE_CHECKING:
    from b24offline.emulator.server.world import World
    from b24offline.emulator.state import Licence, Portal

Handler = Callable[["World", "Portal", Any], Any]
"""Gets the world, the portal meant and the JSON body (or the query for reading); ValueError becomes 400."""


def change(_world: World, portal: Portal, body: Any) -> Any:
    """Add, update or delete objects: `{entity, action, count | ids, fields, connector}`; items by `entityTypeId`."""
    entity, action = _one_of(body, "entity", ENTITIES), _one_of(body, "action", ACTIONS)
    connector, contents = str(body.get("connector", "")), body.get("fields")
    ids = [str(object_id) for object_id in body.get("ids", ())]
    with portal.lock:
        if action == ADD:
            item_type = _item_type(body, entity)
            made = [
                portal.add(entity, contents, item_type=item_type, connector=connector)
                for _ in range(int(body.get("count", 1)))
            ]
            return {"ids": [stored.id for stored in made], "seq": portal.sequence.last}
        if ids:
            found = [portal.objects.get(entity, object_id) for object_id in ids]
            missing = [object_id for object_id, known in zip(ids, found, strict=True) if known is None]
            if missing:
                raise ValueError(f"{entity} {missing} do not exist on portal {portal.name}")
            chosen = [stored for stored in found if stored is not None]
        else:
            chosen = portal.objects.some(entity, int(body.get("count", 1)))
        for stored in chosen:
            if action == UPDATE:
                portal.update(stored, contents, connector=connector)
            elif action == DELETE:
                portal.delete(stored, connector=connector)
        return {"ids": [stored.id for stored in chosen], "seq": portal.sequence.last}


def event(_world: World, portal: Portal, body: Any) -> Any:
    """Queue an event with any data: `{name, data, entity, id, connector}`; return the number of connectors."""
    with portal.lock:
        subject = (str(body.get("entity", "")), str(body.get("id", "")))
        name, connector = str(_needed(body, "name")).upper(), str(body.get("connector", ""))
        return {"queued": portal.raise_event(name, body.get("data"), subject, connector)}


def backlog(_world: World, portal: Portal, body: Any) -> Any:
    """Change `count` different objects of `entities`, adding what is missing without events."""
    count = int(_needed(body, "count"))
    entities = [_one_of({"entities": entity}, "entities", ENTITIES) for entity in body.get("entities") or ENTITIES]
    with portal.lock:
        before = len(portal.queue)
        for number, entity in enumerate(entities):
            share = count // len(entities) + (number < count % len(entities))
            missing = share - portal.objects.counts()[entity]
            for _ in range(missing):
                portal.objects.add(entity, portal.clock.now())
            for stored in portal.objects.some(entity, share):
                portal.update(stored)
        return {"changed": count, "queued": len(portal.queue) - before}


def start_traffic(world: World, portal: Portal, body: Any) -> Any:
    """Begin a stream of changes."""
    plan = parse_traffic(body)
    world.sites[portal.name].traffic.start(plan)
    return world.sites[portal.name].traffic.report()


def stop_traffic(world: World, portal: Portal, _body: Any) -> Any:
    """End the stream of changes and return its exact count."""
    return world.sites[portal.name].traffic.stop()


def arm_faults(world: World, portal: Portal, body: Any) -> Any:
    """Put fault plans in force and return their ids."""
    plans = [parse_plan(plan) for plan in (body if isinstance(body, list) else [body])]
    return {"ids": [world.sites[portal.name].faults.arm(plan) for plan in plans]}


def disarm_faults(world: World, portal: Portal, body: Any) -> Any:
    """Remove the plan `id`, or all."""
    fault_id = body.get("id")
    return {"removed": world.sites[portal.name].faults.disarm(None if fault_id is None else int(fault_id))}


def expire_tokens(_world: World, portal: Portal, _body: Any) -> Any:
    """Let all access tokens expire."""
    with portal.lock:
        return {"expired": portal.tokens.expire_access()}


def revoke_tokens(_world: World, portal: Portal, _body: Any) -> Any:
    """Let no refresh token work any more."""
    with portal.lock:
        portal.tokens.revoke(portal.clock.now())
        return {"revoked": True}


def issue_token(_world: World, portal: Portal, _body: Any) -> Any:
    """Return a further access token, and the current refresh token."""
    with portal.lock:
        access = portal.tokens.issue_access(portal.clock.now())
        return {"access_token": access, "refresh_token": portal.tokens.current_refresh_token}


def issue_code(_world: World, portal: Portal, _body: Any) -> Any:
    """Return an authorization code, good once and for 30 seconds."""
    with portal.lock:
        return {"code": portal.tokens.new_code(portal.clock.now())}


def licence(_world: World, portal: Portal, body: Any) -> Any:
    """Switch features of the plan on and off."""
    return _assign(portal, portal.licence, body)


def user(_world: World, portal: Portal, body: Any) -> Any:
    """Make the user an administrator or not: `{admin}`; `{user_id}` changes who acts."""
    return _assign(portal, portal.account, body)


def application(world: World, portal: Portal, body: Any) -> Any:
    """Set `installed`, `scopes`, the application's `address` and its `handler` of installations.

    `removed` uninstalls it, or installs it again; `updated` ends its bindings. Handlers are told of all three.
    """
    known = {name: str(body.pop(name)) for name in ("address", "handler") if name in body}
    world.application = replace(world.application, **known)
    push, updated = world.sites[portal.name].push, body.pop("updated", False)
    given = _typed(body, Account())
    with portal.lock:
        if "removed" in given:
            if given.pop("removed"):
                push.uninstall()
            else:
                push.install(world.application.handler)
        if updated:
            push.update()
        found = _assign(portal, portal.account, given)
        return {**found, "refresh_token": portal.tokens.current_refresh_token}


def limits(_world: World, portal: Portal, body: Any) -> Any:
    """Set the bucket (`drain`, `holds`, `off`) and `operating_limit`, `costs`, `charge`, `reset`."""
    switches = {name: _of_type(name, body[name], bool) for name in ("off", "reset") if name in body}
    with portal.lock:
        bucket, operating = portal.bucket, portal.operating
        bucket.drain = float(body.get("drain", bucket.drain))
        bucket.holds = float(body.get("holds", bucket.holds))
        bucket.off = switches.get("off", bucket.off)
        operating.limit_seconds = float(body.get("operating_limit", operating.limit_seconds))
        operating.costs |= {str(name): float(cost) for name, cost in body.get("costs", {}).items()}
        if switches.get("reset"):
            operating.clear()
        for method, seconds in body.get("charge", {}).items():
            operating.charge(str(method).lower(), portal.clock.now(), float(seconds))
        return {
            "drain": bucket.drain,
            "holds": bucket.holds,
            "off": bucket.off,
            "operating_limit": operating.limit_seconds,
            "costs": operating.costs,
        }


def clock(_world: World, portal: Portal, body: Any) -> Any:
    """Move the clock ahead (`advance_seconds`) or let it run faster (`rate`)."""
    with portal.lock:
        portal.clock.advance(float(body.get("advance_seconds", 0)))
        if "rate" in body:
            portal.clock.set_rate(float(body["rate"]))
        return {"now": portal.clock.now(), "rate": portal.clock.rate}


def drop_subscriptions(_world: World, portal: Portal, body: Any) -> Any:
    """Remove bindings silently: all, or those of `event`."""
    event_name = str(body.get("event", "")).upper()
    with portal.lock:
        return {"dropped": portal.subscriptions.unbind(lambda binding: event_name in ("", binding.event))}


def drop_records(_world: World, portal: Portal, _body: Any) -> Any:
    """Delete every record of the queue."""
    with portal.lock:
        return {"dropped": portal.queue.drop_all(portal.clock.now())}


def marks(_world: World, portal: Portal, body: Any) -> Any:
    """Mark free records of `connector` as failed: `ids`, or the first `count`, or all."""
    with portal.lock:
        records = sorted(portal.queue.batch(str(body.get("connector", "")), FREE), key=lambda record: record.id)
        wanted = {int(record_id) for record_id in body.get("ids", ())}
        chosen = [record for record in records if not record.nacked and (not wanted or record.id in wanted)]
        for record in chosen[: body.get("count")]:
            portal.queue.mark(portal.clock.now(), record)
        return {"nacked": len(chosen[: body.get("count")])}


def steal(_world: World, portal: Portal, body: Any) -> Any:
    """Move records to a fresh process id, as an overlapping reserving call of somebody else would.

    `process_id` or `ids` say which, in `connector`; free ones (up to `count`) without either.
    """
    with portal.lock:
        connector, process_id = str(body.get("connector", "")), str(body.get("process_id", ""))
        wanted = {int(record_id) for record_id in body.get("ids", ())}
        pool = portal.queue.select(connector, Selection(order=(("ID", False),)))
        chosen = [record for record in pool if (record.id in wanted if wanted else record.process_id == process_id)]
        taken = chosen[: body.get("count")]
        fresh = portal.new_token()[:32]
        portal.queue.move(portal.clock.now(), taken, fresh)
        return {"process_id": fresh if taken else None, "ids": [str(record.id) for record in taken]}


def quirks(_world: World, portal: Portal, body: Any) -> Any:
    """Change what the vendor leaves open and return all choices."""
    with portal.lock:
        portal.quirks = portal.quirks.changed(body)
        return asdict(portal.quirks)


WRITERS: Final[dict[tuple[str, str], Handler]] = {
    ("POST", "change"): change,
    ("POST", "event"): event,
    ("POST", "backlog"): backlog,
    ("POST", "traffic"): start_traffic,
    ("DELETE", "traffic"): stop_traffic,
    ("POST", "faults"): arm_faults,
    ("DELETE", "faults"): disarm_faults,
    ("POST", "tokens/expire"): expire_tokens,
    ("POST", "tokens/revoke"): revoke_tokens,
    ("POST", "tokens/issue"): issue_token,
    ("POST", "tokens/code"): issue_code,
    ("POST", "licence"): licence,
    ("POST", "user"): user,
    ("POST", "app"): application,
    ("POST", "limits"): limits,
    ("POST", "clock"): clock,
    ("POST", "subscriptions/drop"): drop_subscriptions,
    ("POST", "records/drop"): drop_records,
    ("POST", "marks"): marks,
    ("POST", "steal"): steal,
    ("POST", "quirks"): quirks,
}


def _one_of(body: Any, name: str, known: tuple[str, ...]) -> str:
    value = str(body.get(name))
    if value not in known:
        raise ValueError(f"{name} is one of {', '.join(known)}, not {value!r}")
    return value


def _needed(body: Any, name: str) -> Any:
    if name not in body:
        raise ValueError(f"{name} is missing")
    return body[name]


def _item_type(body: Any, entity: str) -> int:
    item_type = int(body.get("entityTypeId", 0))
    if item_type and entity != "crm_item":
        raise ValueError(f"entityTypeId is for crm_item, not for {entity}")
    if item_type and item_type not in ITEM_TYPES:
        raise ValueError(f"entityTypeId is one of {', '.join(map(str, ITEM_TYPES))}, not {item_type}")
    return item_type


def _of_type(name: str, value: Any, wanted: type) -> Any:
    if type(value) is not wanted:
        raise ValueError(f"{name} takes {wanted.__name__}, not {value!r}")
    return value


def _typed(body: Any, target: Licence | Account) -> dict[str, Any]:
    known = asdict(target)
    unknown = set(body) - set(known)
    if unknown:
        raise ValueError(f"unknown keys {sorted(unknown)}; known are {sorted(known)}")
    return {name: _of_type(name, value, type(known[name])) for name, value in body.items()}


def _assign(portal: Portal, target: Licence | Account, body: Any) -> Any:
    given = _typed(body, target)
    with portal.lock:
        for name, value in given.items():
            setattr(target, name, value)
        return asdict(target)
