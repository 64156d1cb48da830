"""The queue against a plain model of the documented sentences, under any sequence of calls."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from b24offline.emulator.state.clock import parse_moment
from tests.unit.emulator.emulator_bench import DAY, START, PortalBench

CONNECTORS = ("", "crm", "erp")
DEALS = ("1", "2", "3", "4")
Row = dict[str, Any]

connectors = st.sampled_from(CONNECTORS)
deals = st.sampled_from(DEALS)
picks = st.integers(0, 30)


class QueueMachine(RuleBasedStateMachine):
    """Rows of the model: id, connector, deal, stamp, process, error, since (of the reservation)."""

    @initialize()
    def begin(self) -> None:
        self.bench = PortalBench.new("ONCRMDEALUPDATE", connectors=CONNECTORS)
        self.bench.deals(len(DEALS))
        self.now = START
        self.rows: list[Row] = []
        self.last_id = 0
        self.processes = ["", "f" * 32]
        self.message_of: dict[str, str] = {}

    def free(self, connector: str, error: bool | None = None) -> list[Row]:
        return [
            row
            for row in self.rows
            if row["connector"] == connector and not row["process"] and error in (None, row["error"])
        ]

    def held(self, connector: str, process: str) -> list[Row]:
        return [row for row in self.rows if row["connector"] == connector and row["process"] == process]

    def reached(self, connector: str, process: str, named: bool) -> list[Row]:
        if named or process:
            return self.held(connector, process)
        return [row for row in self.rows if not row["process"]]

    def drop(self, gone: list[Row]) -> None:
        ids = {row["id"] for row in gone}
        self.rows = [row for row in self.rows if row["id"] not in ids]

    def deal_messages(self, numbers: list[str]) -> list[str]:
        return [self.message_of.get(number, number * 32) for number in numbers]

    @rule(deal=deals, cause=connectors)
    def change(self, deal: str, cause: str) -> None:
        self.bench.touch(deal, connector=cause)
        for connector in CONNECTORS:
            if cause and connector == cause:
                continue
            landing = [row for row in self.free(connector) if row["deal"] == deal]
            assert len(landing) <= 1
            if landing:
                landing[0]["stamp"] = int(self.now)
                continue
            self.last_id += 1
            row = {"id": self.last_id, "connector": connector, "deal": deal, "stamp": int(self.now)}
            self.rows.append({**row, "process": "", "error": False, "since": 0.0})

    @rule(seconds=st.sampled_from((0.4, 1, 90, DAY, 15 * DAY)))
    def wait(self, seconds: float) -> None:
        self.bench.wait(seconds)
        self.now += seconds
        self.drop([row for row in self.rows if row["process"] and self.now - row["since"] >= 30 * DAY])

    @rule(
        connector=connectors,
        limit=st.integers(1, 4),
        error=st.sampled_from((None, 0, 1)),
        by_id=st.booleans(),
    )
    def reserve(self, connector: str, limit: int, error: int | None, by_id: bool) -> None:
        params: dict[str, Any] = {"order": {"ID": "ASC"}} if by_id else {}
        if error is not None:
            params["error"] = error
        process, events = self.bench.reserve(auth_connector=connector, limit=limit, **params)
        pool = self.free(connector, error == 1)
        pool.sort(key=lambda row: row["id"] if by_id else (row["stamp"], row["id"]))
        assert [int(row["ID"]) for row in events] == [row["id"] for row in pool[:limit]]
        assert process not in self.processes
        self.processes.append(process)
        for row in pool[:limit]:
            row.update(process=process, since=self.now)

    @rule(connector=connectors, limit=st.integers(1, 4))
    def take(self, connector: str, limit: int) -> None:
        self.bench.ok("event.offline.get", auth_connector=connector, limit=limit)
        pool = sorted(self.free(connector, False), key=lambda row: (row["stamp"], row["id"]))
        self.drop(pool[:limit])

    @rule(connector=connectors, pick=picks, limit=st.integers(1, 4), clear=st.sampled_from((0, 1)))
    def reread(self, connector: str, pick: int, limit: int, clear: int) -> None:
        process = self.processes[1:][pick % (len(self.processes) - 1)]
        answer = self.bench.ok(
            "event.offline.get", auth_connector=connector, process_id=process, limit=limit, clear=clear
        )
        left = sorted(self.held(connector, process), key=lambda row: (row["stamp"], row["id"]))
        assert [int(row["ID"]) for row in answer["events"]] == [row["id"] for row in left[:limit]]
        if clear:
            self.drop(left)

    @rule(connector=connectors, pick=picks, ids=st.lists(st.integers(1, 25), max_size=5, unique=True))
    def clear_ids(self, connector: str, pick: int, ids: list[int]) -> None:
        process = self.processes[pick % len(self.processes)]
        assert self.bench.ok("event.offline.clear", process_id=process, id=ids, auth_connector=connector) is True
        self.drop([row for row in self.reached(connector, process, bool(ids)) if not ids or row["id"] in ids])

    @rule(connector=connectors, pick=picks, numbers=st.lists(deals, max_size=3), also=st.booleans())
    def clear_messages(self, connector: str, pick: int, numbers: list[str], also: bool) -> None:
        process = self.processes[pick % len(self.processes)]
        more = {"id": [1]} if also else {}
        self.bench.ok(
            "event.offline.clear",
            process_id=process,
            message_id=self.deal_messages(numbers),
            auth_connector=connector,
            **more,
        )
        reached = self.reached(connector, process, bool(numbers))
        self.drop([row for row in reached if not numbers or row["deal"] in numbers])

    @rule(connector=connectors, pick=picks, numbers=st.lists(deals, max_size=3))
    def report(self, connector: str, pick: int, numbers: list[str]) -> None:
        process = self.processes[pick % len(self.processes)]
        assert self.bench.ok(
            "event.offline.error",
            process_id=process,
            message_id=self.deal_messages(numbers),
            auth_connector=connector,
        )
        meant = [
            row for row in self.rows if row["connector"] == connector and row["deal"] in numbers and not row["error"]
        ]
        self.drop([row for row in meant if row["process"] != process])
        for row in meant:
            if row["process"] == process:
                row.update(process="", error=True)

    @invariant()
    def list_shows_the_model(self) -> None:
        if not hasattr(self, "bench"):
            return
        for connector in CONNECTORS:
            shown = []
            for row in self.bench.rows(connector):
                deal = row["EVENT_DATA"]["FIELDS"]["ID"]
                assert self.message_of.setdefault(deal, row["MESSAGE_ID"]) == row["MESSAGE_ID"]
                stamp = int(parse_moment(row["TIMESTAMP_X"]))
                shown.append((int(row["ID"]), deal, stamp, row["PROCESS_ID"], row["ERROR"] == "1"))
            wanted = [row for row in self.rows if row["connector"] == connector]
            assert shown == [(row["id"], row["deal"], row["stamp"], row["process"], row["error"]) for row in wanted]

    @invariant()
    def history_tells_the_same(self) -> None:
        if not hasattr(self, "bench"):
            return
        self.bench.portal.expire()
        left: dict[int, tuple[str, bool, int]] = {}
        seqs = []
        for entry in self.bench.portal.history.page(0, 10**6):
            seqs.append(entry["seq"])
            if entry["kind"] in ("queued", "restamped", "reserved", "nacked"):
                left[int(entry["id"])] = (entry["process_id"], entry["nacked"], entry["stamp"])
            else:
                assert entry["kind"] in ("cleared", "deleted_by_error", "expired")
                del left[int(entry["id"])]
        assert seqs == sorted(set(seqs))
        assert left == {row["id"]: (row["process"], row["error"], row["stamp"]) for row in self.rows}


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
