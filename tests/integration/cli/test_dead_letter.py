"""`b24offline dead-letter` and `nacked`, with a real store and ledger behind them."""

from __future__ import annotations

import itertools
import json
import os
from typing import TYPE_CHECKING, Any, TextIO

import pytest
from click.testing import CliRunner, Result

from b24offline import keys
from b24offline.cli import main
from b24offline.cli.dead_letter import PER_SECOND
from b24offline.cli.time_span import parsed_span
from b24offline.config import Config
from b24offline.events import DesiredState
from b24offline.ledger import BatchKind, Entry, hurry_nacked
from b24offline.monitoring.health_sample import take_sample
from b24offline.runtime import Runtime
from tests.support.core_events import PIPELINE, event_of, pass_time, run_of, run_state

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

    from b24offline.delivery import PortalServices
    from b24offline.supervisor import EmbeddedValkey

CANARY = "canary of a customer"


class Desk:
    """A deployment with two portals, and its operator."""

    def __init__(self, folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {"B24_REDIS_URL": url, "B24_DATA_DIR": str(folder), "B24_REDIS_KEY_PREFIX": "desk"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("USER", "olga")
        monkeypatch.setenv("LOGNAME", "olga")
        self.runtime = Runtime(Config.load())
        for portal in ("acme", "globex"):
            self.runtime.store.portals.add(
                portal,
                client_endpoint=f"https://{portal}.example/rest/",
                auth_url="https://auth.example",
                client_id="app",
                client_secret="s",
                connector="b24offline",
                refresh_token=portal,
            )

    def services(self, portal: str = "acme") -> PortalServices:
        return self.runtime.services(portal)

    def retry(self, record: int, portal: str = "acme", *, reason: str = "ValueError", **changes: Any) -> None:
        """Leave a retrying run that failed and backs off."""
        changes = {"portal": portal, "data": {"NAME": CANARY}, "nacked": True, **changes}
        event = event_of(record, **changes)
        ledger = self.services(portal).ledger
        ledger.open(f"p{record}", [Entry(event, (PIPELINE,))], kind=BatchKind.RETRYING)
        (ref,) = ledger.start(f"p{record}")
        assert ledger.reschedule_run(ref.run, ref.attempt, None, counted=True, reason=reason)

    def dead_letter(self, record: int, portal: str = "acme", **more: Any) -> None:
        self.retry(record, portal, **more)
        services = self.services(portal)
        pass_time(self.runtime.redis, services.ledger, self.runtime.timers.dead_letter_after_seconds + 1)
        for run in services.ledger.take_overdue().exhausted:
            services.dead_letter_queue.dead_letter(run)

    def state(self, record: int, portal: str = "acme") -> str | None:
        return run_state(self.runtime.redis, self.services(portal).ledger, run_of(record))

    def run(self, *words: str, code: int = 0, answer: str | None = None) -> Result:
        reply = CliRunner().invoke(main, words, input=answer)
        assert reply.exit_code == code, reply.output
        return reply

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self.run(*words, "--json", code=code).stdout)


@pytest.fixture
def desk(tmp_path: Path, valkey: EmbeddedValkey, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, valkey.url, monkeypatch)


@pytest.fixture
def three(desk: Desk) -> Desk:
    desk.dead_letter(1)
    desk.dead_letter(2, reason="KeyError", name="ONCRMLEADADD")
    desk.dead_letter(3, "globex")
    return desk


def test_list_shows_what_is_open_and_where_it_is(three: Desk) -> None:
    lines = three.run("dead-letter", "list").stdout.splitlines()
    assert lines[0].split() == ["id", "portal", "record", "event", "object", "pipeline", "reason", "age", "now"]
    assert [line.split()[:3] for line in lines[1:]] == [["1", "acme", "1"], ["2", "acme", "2"], ["3", "globex", "3"]]
    assert {line.split()[-1] for line in lines[1:]} == {"dead-lettered"}
    assert CANARY not in "".join(lines)


def test_without_dead_letters_it_says_so(desk: Desk) -> None:
    assert desk.run("dead-letter", "list").stdout == "No dead letters.\n"


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ((), [1, 2, 3]),
        (("--portal", "acme"), [1, 2]),
        (("--event", "oncrmleadadd"), [2]),
        (("--reason", "Value"), [1, 3]),
        (("--portal", "acme", "--reason", "ValueError"), [1]),
        (("--older-than", "1h"), []),
        (("--older-than", "0s"), [1, 2, 3]),
        (("--older-than", "9999999999999w"), []),
        (("--limit", "2"), [1, 2]),
        (("--limit", "9" * 20), [1, 2, 3]),
        (("--ended",), []),
    ],
)
def test_list_filters(three: Desk, filters: tuple[str, ...], found: list[int]) -> None:
    assert [dead_letter["id"] for dead_letter in three.json("dead-letter", "list", *filters)] == found


def test_list_says_how_many_it_leaves_out(three: Desk) -> None:
    for filters, more in ((), 2), (("--reason", "Value"), 1):
        reply = three.run("dead-letter", "list", *filters, "--limit", "1")
        assert reply.stdout.splitlines()[-1] == f"{more} more; --limit 0 shows all."
    reply = three.run("dead-letter", "list", "--limit", "1", "--json")
    assert (len(json.loads(reply.stdout)), reply.stderr) == (1, "2 more; --limit 0 shows all.\n")
    assert "more" not in three.run("dead-letter", "list", "--limit", "0").output


@pytest.mark.parametrize("span", ["", "7", "d", "-1d", "1y", "1.d"])
def test_an_invalid_span_is_refused(desk: Desk, span: str) -> None:
    assert "is not a span of time" in desk.run("dead-letter", "list", "--older-than", span, code=2).output


def test_spans() -> None:
    assert [parsed_span(text) for text in ("90s", "15m", "1.5h", "7 d", "2W")] == [90, 900, 5400, 604_800, 1_209_600]


def test_show_leaves_the_payload_out_unless_asked(three: Desk) -> None:
    assert CANARY not in three.run("dead-letter", "show", "1").output
    assert three.json("dead-letter", "show", "1", "--payload")["payload"]["data"] == {"NAME": CANARY}
    assert "no dead letter 9" in three.run("dead-letter", "show", "9", code=2).output
    assert "not in the range" in three.run("dead-letter", "show", "9" * 20, code=2).output


def test_redrive_starts_the_run_and_leaves_the_dead_letter_open(three: Desk) -> None:
    reply = three.run("dead-letter", "redrive", "1")
    assert "1 redriven" in reply.output
    assert (three.state(1), three.state(2)) == ("waiting", "dead_lettered")
    assert len(three.runtime.store.dead_letters.list()) == 3
    pass_time(three.runtime.redis, three.services().ledger, 1)
    assert [ref.run for ref in three.services().ledger.take_overdue().runs] == [run_of(1)]
    reply = three.run("dead-letter", "redrive", "1", code=1)
    assert "was not redriven: its run is ready" in reply.output


def test_redriven_runs_become_due_a_few_a_second(desk: Desk) -> None:
    for record in range(1, 22):
        desk.dead_letter(record)
    desk.run("dead-letter", "redrive", "--portal", "acme")
    due = [desk.runtime.redis.zscore(keys.due(desk.services().ledger.stem), f"run:{run_of(n)}") for n in range(1, 22)]
    assert all(later - earlier >= 1000 / PER_SECOND for earlier, later in itertools.pairwise(due))


@pytest.mark.parametrize("command", ["redrive", "drop"])
def test_a_dry_run_changes_nothing(three: Desk, command: str) -> None:
    reply = three.run("dead-letter", command, "--reason", "ValueError", "--dry-run")
    assert "2 would be" in reply.output
    assert {three.state(1), three.state(3, "globex")} == {"dead_lettered"}
    assert [dead_letter["id"] for dead_letter in three.json("dead-letter", command, "--all", "--dry-run")] == [1, 2, 3]


@pytest.mark.parametrize("command", ["redrive", "drop"])
@pytest.mark.parametrize("words", [(), ("1", "--all"), ("1", "77"), ("1", "--portal", "globex")])
def test_an_unclear_selection_changes_nothing(three: Desk, command: str, words: tuple[str, ...]) -> None:
    assert "Nothing was changed" in three.run("dead-letter", command, *words, code=2).output
    assert three.state(1) == "dead_lettered"


@pytest.mark.parametrize(("command", "done"), [("redrive", "redriven"), ("drop", "dropped")])
def test_filters_that_match_nothing_are_reported(three: Desk, command: str, done: str) -> None:
    reply = three.run("dead-letter", command, "--portal", "acmee")
    assert reply.stdout == f"No open dead letter matches. Nothing was {done}.\n"


def test_drop_asks_for_confirmation(three: Desk) -> None:
    three.run("dead-letter", "drop", "1", code=1, answer="n\n")
    three.run("dead-letter", "drop", "1", "--json", code=2)
    assert three.state(1) == "dead_lettered"
    three.run("dead-letter", "drop", "1", answer="y\n")
    assert three.state(1) == "succeeded"


def test_drop_ends_the_dead_letter_and_says_who(three: Desk) -> None:
    reply = three.run("dead-letter", "drop", "--all", "--yes")
    assert "3 dropped" in reply.output
    assert three.runtime.store.dead_letters.list() == []
    ended = three.json("dead-letter", "list", "--ended")
    assert [dead_letter["reason"] for dead_letter in ended] == [f"{why}; dropped by olga" for why in _reasons()]
    assert all(dead_letter["ended_at"] and dead_letter["now"] == "ended" for dead_letter in ended)
    assert three.services().ledger.take_overdue().batches == ("p1", "p2")
    assert three.services().ledger.counters()["runs_dropped"] == 2


def _reasons() -> list[str]:
    return ["ValueError", "KeyError", "ValueError"]


@pytest.mark.parametrize(("command", "open_dead_letters"), [("redrive", 3), ("drop", 2)])
def test_after_a_lost_ledger_it_says_what_will_happen(three: Desk, command: str, open_dead_letters: int) -> None:
    three.runtime.redis.flushall()
    reply = three.run("dead-letter", command, "1", *(["--yes"] if command == "drop" else []), code=1)
    assert "is adopted within minutes" in reply.output
    assert len(three.runtime.store.dead_letters.list()) == open_dead_letters
    assert three.json("dead-letter", "list")[0]["now"] == "unknown"


def test_dead_letters_of_a_deleted_portal_can_be_dropped(three: Desk) -> None:
    three.runtime.store.portals.remove("globex")
    with three.runtime.store.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM portals WHERE name = 'globex'")
    assert three.json("dead-letter", "list", "--portal", "globex")[0]["now"] == "unknown"
    three.run("dead-letter", "drop", "3", "--yes", code=1)
    assert three.json("dead-letter", "list", "--portal", "globex") == []


def test_json_has_the_result_for_each(three: Desk) -> None:
    three.run("dead-letter", "redrive", "1")
    pass_time(three.runtime.redis, three.services().ledger, 1)
    three.services().ledger.take_overdue()
    assert three.json("dead-letter", "drop", "1", "2", "--yes", code=1) == {
        "dead_letters": {"1": "ready", "2": "dropped"}
    }


def test_an_export_is_complete_and_readable_by_its_owner(three: Desk, tmp_path: Path) -> None:
    path = tmp_path / "dead_letters.jsonl"
    assert "2 dead letters" in three.run("dead-letter", "export", "--portal", "acme", "--to", str(path)).output
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["record_id"] for row in rows] == [1, 2]
    assert rows[0]["payload"]["data"] == {"NAME": CANARY}
    assert path.stat().st_mode & 0o777 == 0o600
    assert "Nothing was exported" in three.run("dead-letter", "export", "--to", str(path), code=2).output
    assert len(path.read_text().splitlines()) == 2


def test_an_export_that_fails_leaves_no_file(three: Desk, tmp_path: Path) -> None:
    with three.runtime.store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE dead_letters SET payload = 'torn' WHERE id = 2")
    path = tmp_path / "dead_letters.jsonl"
    assert "payload of dead letter 2" in three.run("dead-letter", "export", "--to", str(path), code=2).output
    assert not path.exists(), "it would be taken for a complete one, and block the next export"
    assert "1 dead letters" in three.run("dead-letter", "export", "--portal", "globex", "--to", str(path)).output


def test_an_export_onto_a_full_disk_is_a_sentence(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, *how: str, **options: str) -> TextIO:
        os.close(handle)
        return open("/dev/full", "w", encoding="utf-8")

    desk.dead_letter(1)
    path = tmp_path / "dead_letters.jsonl"
    monkeypatch.setattr("b24offline.cli.dead_letter.os.fdopen", full)
    reply = desk.run("dead-letter", "export", "--to", str(path), code=1)
    assert "No space left on device. Nothing was exported" in reply.output
    assert not path.exists()


def test_nacked_lists_and_counts(three: Desk) -> None:
    three.retry(4)
    redis, ledger = three.runtime.redis, three.services().ledger
    note = json.dumps({"event": "ONCRMDEALADD", "object": "crm_deal 9", "pipeline": PIPELINE, "reason": "KeyError"})
    redis.hset(f"{ledger.stem}:failures", "9", note)
    redis.hset(f"{ledger.stem}:nacked", mapping={"9": ledger.now_ms() - 90_000, "10": ledger.now_ms(), "4": 1})
    lines = three.run("nacked", "--counts").stdout.splitlines()
    assert lines[1].split() == ["acme", "2", "90", "s", "1", "0", "s", "2", "336.0", "h"]
    assert lines[2].split() == ["globex", "0", "-", "0", "-", "1", "168.0", "h"]
    records = three.run("nacked", "--portal", "acme").stdout
    assert [line.split()[1:3] for line in records.splitlines()[1:]] == [
        ["nacked", "9"],
        ["nacked", "10"],
        ["dead-lettered", "1"],
        ["dead-lettered", "2"],
        ["retrying", "4"],
    ], "4 is reserved: the last look at the portal is older"
    nine = next(row for row in three.json("nacked") if row["record_id"] == 9)
    assert [nine[name] for name in ("event", "object", "pipeline", "reason")] == list(json.loads(note).values())
    assert 0 < nine["next_seconds"] <= three.runtime.timers.redrive_backoff_seconds[0] - 90
    assert CANARY not in records
    assert {row["state"] for row in three.json("nacked")} == {"", "dead_lettered", "waiting"}
    assert "No portal named" in three.run("nacked", "--portal", "initech", code=2).output
    assert "4 more" in three.run("nacked", "--portal", "acme", "--limit", "1").stdout


def test_nacked_redrive_makes_them_due_now(three: Desk) -> None:
    three.retry(4)
    redis, ledger = three.runtime.redis, three.services().ledger
    redis.hset(f"{ledger.stem}:nacked", mapping={"9": ledger.now_ms(), "10": ledger.now_ms()})
    for words in ((), ("4", "--all"), ("9",), ("11", "--portal", "acme"), ("1", "--portal", "acme")):
        assert "Nothing was changed" in three.run("nacked", "redrive", *words, code=2).output
    assert "2 redriven" in three.run("nacked", "redrive", "4", "9", "--portal", "acme").output
    assert three.state(4) == "waiting"
    assert take_sample(redis, ledger).overdue_runs == 1
    nine, ten = ({row["record_id"]: row["next_seconds"] for row in three.json("nacked")}[number] for number in (9, 10))
    assert (nine, ten > 60) == (0, True)
    assert "4 more" not in three.run("nacked", "redrive", "--all", "--portal", "acme").output
    assert {row["next_seconds"] for row in three.json("nacked") if row["place"] == "nacked"} == {0}


def test_a_redrive_is_swept_at_the_next_tick(three: Desk) -> None:
    rounds, redis = three.runtime.rounds, three.runtime.redis
    prefix = three.runtime.config.redis_key_prefix
    swept: list[int] = []

    def sweep() -> str:
        return rounds.sweep(lambda _, overdue: swept.append(len(overdue.runs)) or 0, lambda *_: None, lambda: False)

    def tick() -> bool:
        redis.delete(keys.once_per(prefix, "tick"))
        return rounds.take_due_polls().sweep

    redis.set(keys.once_per(prefix, "sweep"), "1")
    assert not tick()
    three.run("dead-letter", "redrive", "1")
    assert sweep() == "swept just now"
    assert tick()
    assert not tick(), "once"
    sweep()
    assert 1 in swept


def test_an_unreachable_ledger_is_a_sentence(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.dead_letter(1)
    monkeypatch.setenv("B24_REDIS_URL", "redis://127.0.0.1:1/0")
    assert desk.json("dead-letter", "list")[0]["now"] == "?"
    assert "ledger cannot be reached" in desk.run("dead-letter", "redrive", "1", code=1).output
    assert "ledger cannot be reached" in desk.run("nacked", code=1).output


def test_a_portal_with_dead_letters_drains_but_is_not_removed(three: Desk) -> None:
    three.runtime.store.portals.set_desired_state("globex", DesiredState.PAUSED)
    portal = three.runtime.store.portals.get("globex")
    assert three.services("globex").lifecycle.drained(portal, 0.0)
    assert "1 dead letters" in three.run("portal", "remove", "globex", code=2).output
    assert three.state(3, "globex") == "dead_lettered"


def test_removing_a_portal_names_what_waits_and_asks(desk: Desk) -> None:
    desk.dead_letter(1)
    desk.retry(2)
    hurry_nacked(desk.runtime.redis, desk.services().ledger, 3)
    refused = desk.run("portal", "remove", "acme", "--force", code=1, answer="n\n").output
    waits = "1 reserved events with 1 unfinished runs, 1 nacked events, 1 dead letters."
    assert f"This deployment will not run what waits there: {waits}" in refused
    assert desk.runtime.store.portals.get("acme").served
