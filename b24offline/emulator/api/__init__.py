"""The REST methods of a portal over its state, without HTTP."""

from b24offline.emulator.api.batch import run as run_batch
from b24offline.emulator.api.call import Call, Result
from b24offline.emulator.api.errors import ApiError
from b24offline.emulator.api.filters import parse_filter, parse_order
from b24offline.emulator.api.listing import matching
from b24offline.emulator.api.params import Params, parse_json, parse_pairs, parse_query
from b24offline.emulator.api.request import Outcome, RestRequest, admit, execute, note, perform
from b24offline.emulator.api.router import invoke

__all__ = [
    "ApiError",
    "Call",
    "Outcome",
    "Params",
    "RestRequest",
    "Result",
    "admit",
    "execute",
    "invoke",
    "matching",
    "note",
    "parse_filter",
    "parse_json",
    "parse_order",
    "parse_pairs",
    "parse_query",
    "perform",
    "run_batch",
]
