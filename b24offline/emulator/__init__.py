"""A Bitrix24 portal to develop and test against: pure state behind plain HTTP, steered through a control API.

Run it with `python -m b24offline.emulator`. It imports nothing else of this package, so that the product
and the portal that it is tested against cannot share a misreading of the portal's rules.
"""

from b24offline.emulator.api import (
    ApiError,
    Call,
    Params,
    Result,
    invoke,
    matching,
    parse_filter,
    parse_json,
    parse_order,
    run_batch,
)
from b24offline.emulator.client import Control, EmulatorError, EmulatorProcess, wait_until
from b24offline.emulator.state import (
    Address,
    Binding,
    Clock,
    Journal,
    OfflineQueue,
    Portal,
    Record,
    Selection,
    Sequence,
    StoredObject,
    iso,
)

__all__ = [
    "Address",
    "ApiError",
    "Binding",
    "Call",
    "Clock",
    "Control",
    "EmulatorError",
    "EmulatorProcess",
    "Journal",
    "OfflineQueue",
    "Params",
    "Portal",
    "Record",
    "Result",
    "Selection",
    "Sequence",
    "StoredObject",
    "invoke",
    "iso",
    "matching",
    "parse_filter",
    "parse_json",
    "parse_order",
    "run_batch",
    "wait_until",
]
