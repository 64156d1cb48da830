"""The documents as a site: every page in the navigation, links between pages, nothing loaded from another server."""

from __future__ import annotations

import posixpath
import re
from itertools import pairwise
from pathlib import Path

import pytest

from b24offline import pipeline, testing
from tools.site import PAGES, example_page, loaded_from_elsewhere, page_of, site_text

CHECKOUT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
DOCUMENTS = {
    path.relative_to(CHECKOUT).as_posix(): path.read_text("utf-8")
    for path in (*(CHECKOUT / name for name in PAGES), *CHECKOUT.glob("docs/**/*.md"))
}
EXAMPLES = {f"examples/{path.name}.md" for path in (CHECKOUT / "examples").iterdir() if path.is_dir()}
NAVIGATION = (CHECKOUT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]


def unlisted(navigation: str) -> set[str]:
    """Return the pages that a navigation does not have, neither by their name nor with their folder."""
    listed = set(re.findall(r": ([\w./-]+\.md)$", navigation, re.MULTILINE))
    folders = tuple(re.findall(r": ([\w-]+/)$", navigation, re.MULTILINE))
    pages = {page_of(name) for name in DOCUMENTS} | EXAMPLES
    return {page for page in pages - listed if not folders or not page.startswith(folders)}


def lists_that_the_site_would_not_show(text: str) -> list[str]:
    """Return the first lines of lists that only some viewers take for lists: one needs a blank line before it, and one
    inside another four blanks.
    """
    lines = FENCE.sub(lambda block: "\n" * block[0].count("\n"), text).splitlines()
    glued = [
        line
        for before, line in pairwise(lines)
        if re.match(r"- |\d+\. ", line) and before and not re.match(r"- |\d+\. | ", before)
    ]
    return glued + [line for line in lines if re.match(r" {1,3}(- |\d+\. )", line)]


def test_every_document_is_in_the_navigation() -> None:
    assert unlisted(NAVIGATION) == set()
    assert unlisted(NAVIGATION.replace("settings.md", "commands.md")) == {"settings.md"}
    assert "adr/README.md" in unlisted(NAVIGATION.replace("adr/", "faq.md"))


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_links_of_the_site_lead_to_its_pages(name: str) -> None:
    here = posixpath.dirname(page_of(name))
    text = FENCE.sub("", site_text(DOCUMENTS[name], name))
    targets = [
        posixpath.normpath(posixpath.join(here, target.partition("#")[0]))
        for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)\s]+)\)", text)
    ]
    pages = {page_of(document) for document in DOCUMENTS} | EXAMPLES
    assert [target for target in targets if target not in pages and not (CHECKOUT / "docs" / target).is_file()] == []


def test_links_are_rewritten_and_what_the_site_does_not_show_is_left_as_words() -> None:
    text = "[a](../README.md#serve-a-portal) [`b`](../tasks/steps.py) ![c](images/flower.png) [d](flower.md) [e](#f)"
    assert site_text(text, "docs/deploy.md") == (
        "[a](index.md#serve-a-portal) `b` ![c](images/flower.png) [d](flower.md) [e](#f)"
    )
    assert site_text("[a](docs/adr/README.md) [b](examples/django)", "README.md") == (
        "[a](adr/README.md) [b](examples/django.md)"
    )
    assert site_text("[a](../flower.md)\n\n```sh\n[b](../none)\n```", "docs/adr/README.md") == (
        "[a](../flower.md)\n\n```sh\n[b](../none)\n```"
    )


def test_the_page_of_an_example_has_its_files_what_to_write_first_before_the_tests() -> None:
    page = example_page(CHECKOUT / "examples" / "django")
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert headings.index("pipelines.py") < headings.index("test_django.py")
    assert "def deal_saved(event):" in page


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_lists_are_lists_on_the_site_too(name: str) -> None:
    assert lists_that_the_site_would_not_show(DOCUMENTS[name]) == []


@pytest.mark.parametrize("text", ["So:\n- a\n", "So:\n1. a\n", "- a\n  - b\n"])
def test_a_list_that_needs_a_blank_line_or_more_of_them_is_found(text: str) -> None:
    assert lists_that_the_site_would_not_show(text)


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.html", '<script src="https://cdn.example/a.js"></script>', 1),
        ("a.html", "<img alt=x src=//pictures.example/a.png>", 1),
        ("a.html", '<link rel="stylesheet" href="https://fonts.example/a.css">', 1),
        ("a.css", "@import 'https://fonts.example/a.css'; a { background: url(https://x.example/a.png) }", 2),
        ("a.html", '<a href="https://docs.example/">more</a> <script src="assets/a.js"></script>', 0),
        ("a.html", '<link rel="canonical" href="https://docs.example/">', 0),
    ],
)
def test_what_a_page_loads_from_another_server_is_found(tmp_path: Path, name: str, text: str, found: int) -> None:
    (tmp_path / name).write_text(text)
    assert len(list(loaded_from_elsewhere(tmp_path))) == found


def test_the_python_reference_has_every_public_name() -> None:
    reference = DOCUMENTS["docs/api.md"]
    for module in (pipeline, testing):
        names = set(module.__all__)
        assert {name for name in names if f"::: {module.__name__}.{name} " not in reference} == set()
        assert {name for name in names if f"[`{name}`]" not in reference} == set()
