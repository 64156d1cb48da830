"""Plans for what goes wrong: which calls, at which stage, how, and how often."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from b24offline.emulator.api import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

KINDS: Final = frozenset(
    {
        *("reset", "hang", "status", "html", "truncated", "empty", "redirect", "wrong_types", "broken_rows", "error"),
        *("large_rows", "many_rows", "braces"),
        *("delay", "twice", "late", "overlap", "hold"),
    }
)
STAGES: Final = ("before", "after")
_LOOK_SECONDS: Final = 0.05
_COMMAND: Final = "batch/"


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """One kind of trouble.

    `match` is a glob over method names, `oauth.token` and `batch`; one that begins with `batch/` is over
    `batch/<method>`, the commands in a batch, which no other reaches. `where` names parameters that must be
    equal as texts. `stage` is before or after the state changed. The plan fires at most `times` times (null:
    always), at every `every`-th matching call, with `probability`. `seconds` is real time, but portal time for
    `late` and `overlap`. `status` is the HTTP status where the kind's own one (500, 502 for html, 302, 200) is
    not meant; `size` is for `large_rows` (characters of each), `many_rows` (how many more) and `braces` (bytes); `code`
    and `description` are for `error`, `location` for `redirect`, and `body` replaces the body.
    """

    match: str = "*"
    kind: str = "error"
    stage: str = "before"
    times: int | None = None
    every: int = 1
    probability: float = 1.0
    seconds: float = 30.0
    status: int | None = None
    code: str = "INTERNAL_SERVER_ERROR"
    description: str = "Internal server error"
    location: str = "http://127.0.0.1:9/rest/"
    body: Any = None
    size: int = 0
    where: dict[str, str] = field(default_factory=dict)

    def applies(self, method: str, params: dict[str, Any]) -> bool:
        """Return whether a call is meant, apart from counting and chance."""
        if method.startswith(_COMMAND) != self.match.startswith(_COMMAND) or not fnmatchcase(method, self.match):
            return False
        return all(str(params.get(name, "")) == str(value) for name, value in self.where.items())


def parse_plan(raw: dict[str, Any]) -> FaultPlan:
    """Read a plan from JSON; raise ValueError that says what is wrong with it."""
    known = {known_field.name for known_field in fields(FaultPlan)}
    unknown = set(raw) - known
    if unknown:
        raise ValueError(f"unknown keys of a fault plan: {sorted(unknown)}; known are {sorted(known)}")
    plan = FaultPlan(**raw)
    if plan.kind not in KINDS:
        raise ValueError(f"unknown kind of fault {plan.kind!r}; known are {sorted(KINDS)}")
    if plan.stage not in STAGES:
        raise ValueError(f"a fault's stage is 'before' or 'after', not {plan.stage!r}")
    if plan.match.startswith(_COMMAND) and plan.kind != "error":
        raise ValueError(f"a command in a batch can only have the fault 'error', not {plan.kind!r}")
    if plan.every < 1 or not 0 <= plan.probability <= 1:
        raise ValueError("a fault fires every 1st call or less often, with a probability between 0 and 1")
    return plan


@dataclass(slots=True)
class ArmedFault:
    """A plan in force, and the numbers of matching calls it saw, of those it hit, of those it holds now."""

    id: int
    plan: FaultPlan
    seen: int = 0
    fired: int = 0
    held: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hold(self, seconds: float, gone: Callable[[], bool] = lambda: False) -> None:
        """Keep a call waiting for `seconds`, until the plan is removed, or until its caller is `gone`."""
        end = time.monotonic() + seconds
        with self.lock:
            self.held += 1
        while (rest := end - time.monotonic()) > 0 and not gone():
            if self.released.wait(min(rest, _LOOK_SECONDS)):
                break
        with self.lock:
            self.held -= 1

    def as_json(self) -> dict[str, Any]:
        """Return the plan and its counters."""
        return {"id": self.id, "seen": self.seen, "fired": self.fired, "held": self.held, **asdict(self.plan)}


class Faults:
    """The plans of one portal, asked in the order in which they came; the first that fires is the one."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._lock = threading.Lock()
        self._armed: dict[int, ArmedFault] = {}
        self._past: list[dict[str, Any]] = []
        self._ids = count(1)

    def arm(self, plan: FaultPlan) -> int:
        """Put a plan in force and return its id."""
        with self._lock:
            armed = ArmedFault(next(self._ids), plan)
            self._armed[armed.id] = armed
            return armed.id

    def disarm(self, fault_id: int | None = None) -> int:
        """Remove one plan or all, and let go of the calls they hold; return the number of removed plans."""
        with self._lock:
            ids = [armed_id for armed_id in self._armed if fault_id in (None, armed_id)]
            for armed_id in ids:
                armed = self._armed.pop(armed_id)
                armed.released.set()
                self._past.append({**armed.as_json(), "removed": True})
            return len(ids)

    def pick(self, method: str, params: dict[str, Any]) -> ArmedFault | None:
        """Return the plan that hits this call, counted as fired; None if the call is spared."""
        if not self._armed:
            return None
        with self._lock:
            for armed in self._armed.values():
                plan = armed.plan
                if not plan.applies(method, params) or (plan.times is not None and armed.fired >= plan.times):
                    continue
                armed.seen += 1
                if armed.seen % plan.every or self._rng.random() >= plan.probability:
                    continue
                armed.fired += 1
                return armed
        return None

    def command_error(self, method: str, params: dict[str, Any]) -> ApiError | None:
        """Return the error with which a command of a batch is refused; None if the command is spared."""
        armed = self.pick(f"{_COMMAND}{method}", params)
        if armed is None or armed.plan.kind != "error":
            return None
        return ApiError(armed.plan.status or 500, armed.plan.code, armed.plan.description)

    def as_json(self) -> list[dict[str, Any]]:
        """Return all plans with their counters, removed ones last."""
        with self._lock:
            return [armed.as_json() for armed in self._armed.values()] + list(self._past)
