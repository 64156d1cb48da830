"""The table of methods, and the checks before each of them."""

from __future__ import annotations

import time
from typing import Final

from b24offline.emulator.api import app_methods, offline_methods
from b24offline.emulator.api.call import Call, Result
from b24offline.emulator.api.envelope import operating_time
from b24offline.emulator.api.errors import ApiError
from b24offline.emulator.api.object_methods import ITEM_METHODS, TASK_METHODS, Method, classic_methods
from b24offline.emulator.state import CLASSIC


def _method_get(call: Call) -> Result:
    known = call.params.text("name").lower() in METHODS
    return Result({"isExisting": known, "isAvailable": known})


METHODS: Final[dict[str, Method]] = {
    "event.bind": app_methods.bind,
    "event.unbind": app_methods.unbind,
    "event.get": app_methods.get,
    "events": app_methods.events,
    "event.offline.get": offline_methods.get,
    "event.offline.list": offline_methods.list_,
    "event.offline.clear": offline_methods.clear,
    "event.offline.error": offline_methods.error,
    "feature.get": app_methods.feature,
    "app.info": app_methods.info,
    "profile": app_methods.profile,
    "user.admin": app_methods.admin,
    "user.get": app_methods.users,
    "user.current": app_methods.current_user,
    "server.time": app_methods.server_time,
    "scope": app_methods.scope,
    "method.get": _method_get,
    **ITEM_METHODS,
    **TASK_METHODS,
    **{
        f"{entity.replace('_', '.')}.{name}": method
        for entity in CLASSIC
        for name, method in classic_methods(entity).items()
    },
}


def invoke(call: Call) -> Result:
    """Run one method and charge its time.

    Raise ApiError 404 for unknown methods, 429 when the method has used up its execution time.
    """
    method = METHODS.get(call.method)
    if method is None:
        raise ApiError(404, "ERROR_METHOD_NOT_FOUND", "Method not found")
    operating = call.portal.operating
    if operating.refuses(call.method, call.now):
        extra = {"time": operating_time(call)} if call.portal.quirks.limit_error_has_time else {}
        raise ApiError(429, "OPERATION_TIME_LIMIT", "The method used up its execution time", extra)
    started = time.perf_counter()
    call.portal.expire()
    try:
        return method(call)
    finally:
        operating.charge(call.method, call.now, time.perf_counter() - started)
