"""Methods about the application, its user and its bindings."""

from __future__ import annotations

from typing import Any, Final

from b24offline.emulator.api.call import Call, Result
from b24offline.emulator.api.errors import ApiError
from b24offline.emulator.state import ITEM_TYPES, OFFLINE_EVENTS, ONLINE_EVENTS, Binding, iso, item_type_of

USERS: Final = {
    "1": ("Marta", "Lind", "Sales lead", "F"),
    "12": ("Omar", "Novak", "Sales", "M"),
    "15": ("Jonas", "Berg", "Warehouse", "M"),
    "31": ("Elif", "Kaya", "Office manager", "F"),
}


def bind(call: Call) -> Result:
    """Register an event; raise ApiError 400 for unknown events and, by default, for what is bound already."""
    call.need_application()
    name = call.params.text("event").upper()
    offline = call.params.text("event_type", "online").lower() == "offline"
    if not _known(name) or (offline and name in ONLINE_EVENTS):
        raise ApiError(400, "ERROR_EVENT_NOT_FOUND", "Event not found")
    handler = call.params.text("handler")
    if offline:
        call.need_admin("Offline events binding requires administrator access rights")
    elif not handler:
        raise ApiError(400, "ERROR_ARGUMENT", "handler is missing")
    if call.params.text("auth_type") not in ("", "0"):
        call.need_admin("Event binding with AUTH_TYPE requires administrator access rights")
    connector = call.connector
    binding = Binding(
        event=name,
        offline=offline,
        connector=connector,
        handler="" if offline else handler,
        user_id=call.params.text("auth_type") or "0",
        min_timeout_seconds=float(call.params.mapping("options").get("minTimeout") or 0),
    )
    if not call.portal.subscriptions.bind(binding) and call.portal.quirks.rebind_is_error:
        raise ApiError(400, "ERROR_CORE", "Unable to set event handler")
    return Result(True)


def unbind(call: Call) -> Result:
    """Remove bindings: those that match what is given, all of them without parameters."""
    call.need_application()
    params = call.params
    names = ("event", "handler", "auth_type", "event_type", "auth_connector")
    if not any(name in params for name in names):
        return Result({"count": call.portal.subscriptions.unbind(lambda _: True)})
    name, handler = params.text("event").upper(), params.text("handler")
    offline, connector = params.text("event_type").lower() == "offline", call.connector
    if offline:
        call.need_admin()

    def meant(binding: Binding) -> bool:
        return (
            binding.offline == offline
            and name in ("", binding.event)
            and binding.connector == connector
            and (offline or handler in ("", binding.handler))
            and ("auth_type" not in params or binding.user_id == (params.text("auth_type") or "0"))
        )

    return Result({"count": call.portal.subscriptions.unbind(meant)})


def get(call: Call) -> Result:
    """Return the bindings of the application."""
    call.need_application()
    rows = []
    for binding in call.portal.subscriptions.all():
        row: dict[str, Any] = {
            "event": binding.event,
            "handler": binding.handler,
            "auth_type": binding.user_id,
            "offline": int(binding.offline),
        }
        if binding.offline and call.portal.quirks.event_get_shows_connector:
            row["connector_id"] = binding.connector
        rows.append(row)
    return Result(rows)


def events(call: Call) -> Result:
    """Return the names of events that can be bound; of one scope, if given."""
    call.need_application()
    actions = ("ADD", "UPDATE", "DELETE")
    variants = [f"ONCRMDYNAMICITEM{action}_{item_type}" for item_type in ITEM_TYPES for action in actions]
    names = sorted(OFFLINE_EVENTS | ONLINE_EVENTS) + variants
    scope = call.params.text("scope")
    prefixes = {"crm": "ONCRM", "task": "ONTASK", "user": "ONUSER", "catalog": "CATALOG"}
    return Result([name for name in names if not scope or name.startswith(prefixes.get(scope, "?"))])


def feature(call: Call) -> Result:
    """Return whether the plan has a feature; unknown ones are `N`."""
    code = call.params.text("code")
    if not code:
        raise ApiError(400, "CODE_EMPTY", "CODE can't be empty")
    licence = call.portal.licence
    known = {
        "rest_offline_extended": licence.rest_offline_extended,
        "rest_auth_connector": licence.rest_auth_connector,
    }
    return Result({"value": "Y" if known.get(code, False) else "N"})


def info(call: Call) -> Result:
    """Return the application on this portal."""
    if call.webhook:
        raise ApiError(400, "ACCESS_DENIED", "Access denied! Application context required")
    commercial = call.portal.licence.commercial
    return Result(
        {
            "ID": 77,
            "CODE": "local.emulated",
            "VERSION": 1,
            "STATUS": "L",
            "INSTALLED": call.portal.account.installed,
            "PAYMENT_EXPIRED": "N",
            "DAYS": None,
            "LANGUAGE_ID": "en",
            "LICENSE": "en_pro100" if commercial else "en_project",
            "LICENSE_TYPE": "pro100" if commercial else "project",
            "LICENSE_FAMILY": "pro",
        }
    )


def profile(call: Call) -> Result:
    """Return the user behind the token."""
    account = call.portal.account
    given, family, _, gender = USERS.get(str(account.user_id), USERS["1"])
    return Result(
        {
            "ID": str(account.user_id),
            "ADMIN": account.admin,
            "NAME": given,
            "LAST_NAME": family,
            "PERSONAL_GENDER": gender,
            "TIME_ZONE": "Europe/Oslo",
        }
    )


def admin(call: Call) -> Result:
    """Return whether the user is an administrator."""
    return Result(call.portal.account.admin)


def users(call: Call) -> Result:
    """Return the users with an id, or all; the id may be given directly or in `filter`."""
    conditions = {name.upper(): value for name, value in call.params.mapping("filter").items()}
    wanted = str(call.params.get("ID") or conditions.get("ID") or "")
    rows = [_user(user_id) for user_id in USERS if wanted in ("", user_id)]
    return Result(rows, len(rows))


def current_user(call: Call) -> Result:
    """Return the user behind the token, as `user.get` shows one."""
    return Result(_user(str(call.portal.account.user_id)))


def server_time(call: Call) -> Result:
    """Return the portal's clock."""
    return Result(iso(call.now))


def scope(call: Call) -> Result:
    """Return what the application may use."""
    return Result(call.portal.account.scopes.split(","))


def _known(name: str) -> bool:
    item_type = item_type_of(name)
    return name in OFFLINE_EVENTS or name in ONLINE_EVENTS or item_type in ITEM_TYPES


def _user(user_id: str) -> dict[str, Any]:
    given, family, position, gender = USERS.get(user_id, USERS["1"])
    mail = f"{given}.{family}@portal.example".lower()
    return {
        "ID": user_id,
        "ACTIVE": True,
        "NAME": given,
        "LAST_NAME": family,
        "SECOND_NAME": "",
        "EMAIL": mail,
        "LAST_LOGIN": "2026-04-03T08:01:13+00:00",
        "DATE_REGISTER": "2025-11-17T00:00:00+00:00",
        "TIME_ZONE": "Europe/Oslo",
        "IS_ONLINE": "Y",
        "TIMESTAMP_X": {},
        "LAST_ACTIVITY_DATE": {},
        "PERSONAL_GENDER": gender,
        "PERSONAL_WWW": "",
        "PERSONAL_CITY": "Oslo",
        "WORK_POSITION": position,
        "UF_EMPLOYMENT_DATE": "",
        "UF_DEPARTMENT": [4],
        "USER_TYPE": "employee",
    }
