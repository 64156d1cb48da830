"""The documents say what is true: their code runs, their commands and links exist, their words are the glossary's."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from b24offline.cli.main import main as command_line
from b24offline.config import Config, variables

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENTS = {
    path.relative_to(CHECKOUT).as_posix(): path.read_text("utf-8")
    for path in (*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md"))
}
WITH_CODE = ("README.md", "docs/write-a-pipeline.md", "docs/beside-an-existing-stack.md")
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
MAX_WIDTH = 120
FIRST_PIPELINE_WORDS = 2500
GROUPS = ("portal", "dead-letter", "db", "ledger")
SOURCE = "".join(
    path.read_text("utf-8") for path in (*CHECKOUT.glob("b24offline/**/*.py"), *CHECKOUT.glob("tasks/*.py"))
)
OLD_WORDS = (
    r"mailbox(es)?",
    r"(?<!dead )(?<!dead-)letters?",
    r"park(s|ed|ing)?",
    r"(un)?marked",
    r"held",
    r"generations?",
    r"quiet( period)?s?",
    r"stands? (back|aside)|standing aside",
    r"chances?",
    r"wish(es)?",
    r"takeovers?",
    r"crash points?",
    r"told",
    r"kits?",
    r"tickets?",
    r"reported",
    r"local (events?|batch(es)?)",
    r"paced?",
    r"uncounted|nobody's attempts?",
)
BUILD_CHAINS = """
import importlib, sys
from b24offline.celery import app
from b24offline.events import Event, ObjectKey, routes, shipped_catalogue
from b24offline.ledger import RunRef
from b24offline.tasks.chains import chain_of

for module in sys.argv[1:]:
    importlib.import_module(module)
app.finalize()
for name in routes.event_names:
    kind = shipped_catalogue().lookup(name)
    event = Event(
        portal="acme", record_id=1, stamp="2026-04-03T10:00:00+03:00", message_id="0" * 32, name=name, user_id=None,
        action=kind.action, object=ObjectKey("acme", kind.entity, "1"), data=None, nacked=False,
    )
    for pipeline in routes.pipelines_for(name):
        chain_of(RunRef(f"1@1/{pipeline}", 1), event, "b24offline.events")
        print(name, pipeline)
"""


def blocks(text: str, *languages: str) -> list[str]:
    """Return the fenced blocks of a document in one of the languages."""
    return [body for language, body in FENCE.findall(text) if language in languages]


def prose(text: str) -> str:
    """Return a document without its fenced blocks; as many lines as before."""
    return FENCE.sub(lambda block: "\n" * block[0].count("\n"), text)


# -- code


def run_python(folder: Path, *arguments: str) -> str:
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{folder}:{CHECKOUT}", "HOME": str(folder)}
    environ["B24_EXTERNAL_QUEUES"] = "shop,celery"
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environ, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", WITH_CODE)
def test_pipelines_in_documents_register_and_build_chains(name: str, tmp_path: Path) -> None:
    code = blocks(DOCUMENTS[name], "python")
    for number, block in enumerate(code):
        (tmp_path / f"block_{number}.py").write_text(block)
    printed = run_python(tmp_path, "-c", BUILD_CHAINS, *(f"block_{number}" for number in range(len(code))))
    built = {line.split()[1] for line in printed.splitlines()}
    assert built == {pipeline for block in code for pipeline in re.findall(r"@route.*\ndef (\w+)", block)}
    assert len(code) >= 1


def named_files(text: str) -> dict[str, str]:
    """Return name -> contents of the files that a document shows: the line before a block ends with its name."""
    return dict(re.findall(r"`([\w.]+)`:\n\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


@pytest.mark.timeout(700)
def test_the_tests_in_the_documents_pass(tmp_path: Path) -> None:
    for name, contents in named_files(DOCUMENTS["docs/testing.md"]).items():
        (tmp_path / name).write_text(contents)
    assert "3 passed" in run_python(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider")


def test_a_first_pipeline_takes_less_reading_than_the_limit() -> None:
    first_part = DOCUMENTS["docs/write-a-pipeline.md"].partition("## Errors and retries")[0]
    assert len(f"{DOCUMENTS['README.md']} {first_part}".split()) < FIRST_PIPELINE_WORDS


def test_the_promise_is_the_same_in_both_documents() -> None:
    quoted = re.findall(r"^> (.+)$", DOCUMENTS["docs/guarantees.md"], re.MULTILINE)
    assert len(quoted) > 2
    assert " ".join(quoted) in " ".join(DOCUMENTS["README.md"].split())


# -- commands


def commands(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the command lines of a document, less `b24offline`, and whether each is whole: in a block, not in prose."""
    for block in blocks(text, "sh", "console"):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            found = re.search(r"(?:^|[$>] |&& |worker |timeout \d+ )b24offline +(.+)", line)
            if found:
                yield re.split(r" [|<>#]| ?&&|;", found[1])[0], True
    for span in re.findall(r"`([^`\n]+)`", prose(text)):
        found = re.search(r"(?:^|worker |timeout \d+ )b24offline +(.+)", span)
        line = found[1] if found else span
        if (found or re.match(rf"({'|'.join(GROUPS)}) ", span)) and f'"{span}' not in SOURCE:
            yield line, False


def wrong_command(line: str, *, whole: bool) -> str:
    """Return what is wrong with a command line, as click reads it; empty where nothing is."""
    words = shlex.split(re.sub(r"(?<!--url) \.\.\.", "", line))
    command: click.Command = command_line
    context = click.Context(command)
    try:
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            _, found, words = command.resolve_command(context, words)
            assert found is not None
            command = found
            context = click.Context(command, info_name=command.name, parent=context)
        given, left, _ = command.make_parser(context).parse_args(words)
    except click.UsageError as error:
        return f"{line}: {error.format_message()}"
    if left:
        return f"{line}: too many arguments"
    missing = [each.name for each in command.params if each.required and given.get(each.name) is None]
    return f"{line}: {missing} missing" if whole and missing else ""


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_commands_in_documents_exist_with_their_options(name: str) -> None:
    assert [wrong for line, whole in commands(DOCUMENTS[name]) if (wrong := wrong_command(line, whole=whole))] == []


def test_command_lines_are_found_in_documents() -> None:
    assert sum(len(list(commands(text))) for text in DOCUMENTS.values()) > 80


def passwords_in_commands(text: str) -> list[str]:
    """Return the parts of command lines that name a password: `ps` shows them to every user of the machine."""
    lines = "\n".join([*blocks(text, "sh", "console"), *re.findall(r"`([^`\n]+)`", prose(text))])
    return re.findall(
        r"--basic[-_]auth\S*|--(?:client-)?(?:secret|password|refresh-token)[ =]\S+|--requirepass.*", lines
    )


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_no_command_in_documents_has_a_password_in_it(name: str) -> None:
    assert passwords_in_commands(DOCUMENTS[name]) == []


def test_settings_in_documents_exist() -> None:
    known = {variable.name for variable in variables(Config)}
    known |= {f"{variable.name}_FILE" for variable in variables(Config) if variable.secret}
    named = {
        (name, variable)
        for name, text in DOCUMENTS.items()
        for variable in re.findall(r"\b(?:B24|CELERY)_[A-Z_]*[A-Z]\b(?![*_])", text)
    }
    assert {each for each in named if each[1] not in known} == set()


def test_lanes_in_the_documents_are_a_right_setting() -> None:
    (block,) = blocks(DOCUMENTS["docs/lanes.md"], "sh")
    text = block.partition("B24_LANES='")[2].partition("'\n")[0]
    assert [lane.name for lane in Config.load({"B24_LANES": text}).lanes] == ["deals", "tasks"]


def test_make_targets_and_celery_applications_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for name, text in DOCUMENTS.items():
        code = "\n".join([*blocks(text, "sh", "console"), *re.findall(r"`([^`\n]+)`", prose(text))])
        assert set(re.findall(r"^(?:\$ )?make ([a-z-]+)", code, re.MULTILINE)) <= targets, name
        assert set(re.findall(r"celery -A (\S+)", code)) <= {"b24offline", "shop", "..."}, name


# -- links, form and words


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_files_named_in_documents_exist(name: str) -> None:
    folders = "b24offline|tasks|settings|pipelines|demo|tools|tests|compose|docs"
    named = set(re.findall(rf"`((?:{folders})/[\w./-]+)`", DOCUMENTS[name]))
    assert {path for path in named if not (CHECKOUT / path).exists()} == set()


def anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(name: str, text: str) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (CHECKOUT / name).parent / path if path else CHECKOUT / name
        if not file.resolve().is_relative_to(CHECKOUT) or not file.exists():
            yield f"{name}: {target} leads nowhere"
        elif anchor and anchor not in anchors(file.read_text("utf-8")):
            yield f"{name}: {target} names no heading"


def wide_lines(name: str, text: str) -> Iterator[str]:
    for number, line in enumerate(prose(text).splitlines(), 1):
        if len(line) > MAX_WIDTH and not line.startswith(("|", "!")):
            yield f"{name}:{number} has {len(line)} characters"


def old_words(name: str, text: str) -> Iterator[str]:
    words = " ".join(prose(text).split())
    for found in re.finditer(rf"\b(?:{'|'.join(OLD_WORDS)})\b", words, re.IGNORECASE):
        yield f"{name} says {found[0]!r}: {words[max(0, found.start() - 40) : found.end() + 20]}"


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_links_lead_somewhere(name: str) -> None:
    assert list(broken_links(name, DOCUMENTS[name])) == []


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_prose_is_wrapped(name: str) -> None:
    assert list(wide_lines(name, DOCUMENTS[name])) == []


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_words_are_those_of_the_glossary(name: str) -> None:
    assert list(old_words(name, DOCUMENTS[name])) == []


def redis_keys() -> set[str]:
    """Return the keys that the code builds, with what varies left empty."""
    python = (CHECKOUT / "b24offline/keys.py").read_text("utf-8")
    lua = (CHECKOUT / "b24offline/ledger/scripts/prelude.lua").read_text("utf-8")
    built = re.findall(r'f"\{(?:stem|prefix|stem\(prefix, portal\))\}:([^"]+)"|_(?:one|each)\("(\w+)"\)', python)
    return {key.split(":")[0].split("{")[0] for pair in built for key in pair} - {""} | set(
        re.findall(r"stem \.\. ':([a-z_]+)", lua)
    )


def test_every_redis_key_is_in_the_architecture() -> None:
    chapter = DOCUMENTS["docs/architecture.md"].partition("## Keys in the ledger")[2].partition("\n## ")[0]
    cells = "".join(row.split(" | ")[0] for row in chapter.splitlines() if row.startswith("| `"))
    assert set(re.findall(r"`(?:<p>|b24offline):([a-z_]+)", cells)) == redis_keys()


def journeys() -> list[list[tuple[str, str]]]:
    """Return the stations of the journeys: file and function."""
    chapter = DOCUMENTS["docs/architecture.md"].partition("## Three journeys")[2].partition("\n## ")[0]
    row = re.compile(r"^\| \d+ \| `([\w/.]+)` \| `([\w.]+)` \|", re.MULTILINE)
    return [row.findall(journey) for journey in chapter.split("\n### ")[1:]]


def defined(path: str) -> set[str]:
    """Return the functions, classes and methods (`Class.method`) that a file defines."""
    body = ast.parse((CHECKOUT / path).read_text("utf-8")).body
    named = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    methods = {
        f"{owner.name}.{node.name}"
        for owner in named
        if isinstance(owner, ast.ClassDef)
        for node in owner.body
        if isinstance(node, ast.FunctionDef)
    }
    return {node.name for node in named} | methods


def test_stations_of_the_journeys_exist_and_are_twelve_at_most() -> None:
    assert len(journeys()) == 3
    for stations in journeys():
        assert 8 < len(stations) <= 12
        assert [function for path, function in stations if function not in defined(path)] == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[a](docs/none.md)", "leads nowhere"),
        ("[a](README.md#none)", "names no heading"),
        ("[a](../../etc/passwd)", "leads nowhere"),
        ("x" * 121, "121 characters"),
        ("Its letter waits.", "letter"),
        ("The run is parked.", "parked"),
        ("```sh\nb24offline dead list\n```", "No such command"),
        ("```sh\n$ b24offline status --color\n```", "No such option"),
        ("`b24offline portal add acme globex`", "too many arguments"),
        ("```sh\nb24offline portal add acme\n```", "missing"),
        ("`portal takeover acme`", "No such command"),
        ("`celery -A b24offline flower --basic-auth=a:b`", "--basic-auth"),
        ("```sh\n$ valkey-server --requirepass secret\n```", "--requirepass"),
    ],
)
def test_each_check_can_fail(text: str, complaint: str) -> None:
    wrong = [*broken_links("a.md", text), *wide_lines("a.md", text), *old_words("a.md", text)]
    wrong += passwords_in_commands(text)
    wrong += [each for line, whole in commands(text) if (each := wrong_command(line, whole=whole))]
    assert any(complaint in each for each in wrong)


@pytest.mark.parametrize(("example", "module"), [("sentry", "reporting"), ("opentelemetry", "tracing")])
def test_a_recipe_shows_the_module_that_the_tests_run(example: str, module: str) -> None:
    path = f"examples/{example}/{module}.py"
    code = (CHECKOUT / path).read_text("utf-8").partition('"""\n\n')[2]
    assert code in blocks(DOCUMENTS["docs/recipes.md"], "python")
