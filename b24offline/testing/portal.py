"""A portal in this process: the emulator's rules without HTTP, the product's own client in front of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from b24offline import emulator
from b24offline.rest import RawAnswer, RestClient, is_writing

if TYPE_CHECKING:
    from b24offline.events import ObjectKey
    from b24offline.rest import BatchAnswer, Command, PortalClient

CONNECTOR: Final = "b24offline"
_ENDPOINT: Final = "https://portal.example/rest/"
_TOKEN: Final = "token"  # noqa: S105 - of no portal

Objects = Mapping[str, Mapping[str, Any]]
"""`{"crm_deal 5": {"STAGE_ID": "WON"}}`: entity and id -> fields over those that every such object has."""


@dataclass(frozen=True)
class Refused:
    """An answer that refuses a call: HTTP status, the portal's error code, its text."""

    status: int
    code: str
    text: str = ""


@dataclass(frozen=True)
class InTurn:
    """Answers to successive calls of a method; the last one stays."""

    answers: tuple[Any, ...]


def refused(status: int, code: str, text: str = "") -> Refused:
    """Return the answer of a portal that refuses: `refused(503, "QUERY_LIMIT_EXCEEDED")`."""
    return Refused(status, code, text)


def in_turn(*answers: Any) -> InTurn:
    """Return answers to the first, the second, ... call of a method."""
    return InTurn(answers)


@dataclass(frozen=True)
class PortalCall:
    """One call of a method; a command of a batch is one, too. ``refusal``: the error code, "" where it was answered."""

    method: str
    params: Mapping[str, Any]
    refusal: str

    @property
    def writes(self) -> bool:
        """Whether the method may change something."""
        return is_writing(self.method)


class PortalInProcess:
    """One portal that answers in this process. ``events``: what is subscribed for our connector."""

    def __init__(self, objects: Objects, answers: Mapping[str, Any], events: Iterable[str], name: str) -> None:
        self.calls: list[PortalCall] = []
        self._answers = {method.lower(): answer for method, answer in answers.items()}
        address = emulator.Address(_ENDPOINT, "portal.example", "https://auth.example/oauth/token/")
        self._state = emulator.Portal(name, 1, address, emulator.Clock())
        for bound in events:
            self._state.subscriptions.bind(emulator.Binding(bound, offline=True, connector=CONNECTOR))
        for named, fields in objects.items():
            entity, _, object_id = named.partition(" ")
            entities = self._state.objects.counts()
            if entity not in entities or not object_id:
                raise ValueError(
                    f"{named!r} cannot be kept: name one as 'crm_deal 5', of {', '.join(entities)}. "
                    "For others give the reply of the method that reads them: answers={'user.get': [...]}."
                )
            self._state.objects.put(entity, object_id, fields, self._state.clock.now())
        self.client = cast("PortalClient", _Client(RestClient(name, _ENDPOINT, cast("Any", self))))

    def object(self, key: ObjectKey) -> Any:
        """Return an object as its get method does, None where there is none."""
        found = self._state.objects.get(key.entity, key.object_id)
        return None if found is None else found.data

    def queued(self) -> list[str]:
        """Return the names of the events that wait for us."""
        return [record.event_name for record in self._state.queue.select(CONNECTOR, emulator.Selection())]

    def exchange(
        self, verb: str, url: str, *, params: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> RawAnswer:
        """Answer one request, in the place of `Http.exchange`."""
        del verb, params
        values = {name: value for name, value in emulator.parse_json(body or b"").items() if name != "auth"}
        method = url.removeprefix(_ENDPOINT).lower()
        call = emulator.Call(self._state, method, emulator.Params(values), self._state.clock.now())
        try:
            result = emulator.run_batch(call, self._invoke) if method == "batch" else self._invoke(call)
        except emulator.ApiError as refusal:
            return RawAnswer(refusal.status, json.dumps(refusal.body()).encode(), "")
        return RawAnswer(200, json.dumps({"result": result.result}).encode(), "")

    def _invoke(self, call: emulator.Call) -> emulator.Result:
        try:
            result = self._answered(call)
        except emulator.ApiError as refusal:
            self.calls.append(PortalCall(call.method, call.params.values, str(refusal.code)))
            raise
        self.calls.append(PortalCall(call.method, call.params.values, ""))
        return result

    def _answered(self, call: emulator.Call) -> emulator.Result:
        if call.method not in self._answers:
            return emulator.invoke(call)
        answer = self._answers[call.method]
        if isinstance(answer, InTurn):
            first, *later = answer.answers
            if later:
                self._answers[call.method] = InTurn(tuple(later))
            answer = first
        if isinstance(answer, Refused):
            raise emulator.ApiError(answer.status, answer.code, answer.text)
        return emulator.Result(answer(call.params.values) if callable(answer) else answer)


class _Client:
    """Stands for `PortalClient`: without a rate limit and a token that could expire."""

    def __init__(self, rest: RestClient) -> None:
        self._rest = rest

    def call(self, method: str, params: Mapping[str, object] | None = None) -> Any:
        return self._rest.call(method, params, token=_TOKEN)

    def batch(self, commands: Mapping[str, Command]) -> BatchAnswer:
        return self._rest.batch(commands, token=_TOKEN)
