"""What `mkdocs.yml` adds to MkDocs: pages from outside `docs`, links between them, and no call to another server.

The documents are written for a plain viewer of the checkout: they link `../README.md` and `../examples/django`. The
site has these as pages of its own. `python -m mkdocs` loads this module as a hook; nothing else needs MkDocs.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT: Final = Path(__file__).resolve().parent.parent
PAGES: Final = {
    "README.md": "index.md",
    "README.ru.md": "ru.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "report-a-hole.md",
    "docs/README.md": "documents.md",
}
"""File in the checkout -> its page of the site, where that is not the same path without `docs/`."""
_FENCE: Final = re.compile(r"^( *```.*?^ *```)$", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(
    r"(?P<text>!?\[(?:[^\[\]]|\[[^\]]*\])*\])"
    r"\((?!https?:|mailto:|#)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)"
)
_DIRECTIVE: Final = re.compile(r"^<!-- (::: [\w.]+(?:\n {4}.*)*) -->$", re.MULTILINE)
_LOADED: Final = re.compile(
    r"<(?:script|img|iframe|source|video)[^>]*\ssrc=[\"']?(?:https?:)?//[^\s\"'>]+"
    r"|<link(?![^>]*\srel=[\"']?(?:canonical|alternate))[^>]*\shref=[\"']?(?:https?:)?//[^\s\"'>]+"
    r"|(?:url\(|@import )[\"']?(?:https?:)?//[^\s\"')]+"
)
_LANGUAGES: Final = {".py": "python", ".ini": "ini", ".yaml": "yaml", ".sh": "sh", ".md": "markdown"}


def page_of(path: str) -> str:
    """Return what the site shows of a file or folder of the checkout: a page or an image, or "" if nothing."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    folder = re.match(r"examples/\w+", path)
    return f"{folder[0]}.md" if folder else ""


def site_text(text: str, path: str) -> str:
    """Return the text of the document at ``path`` with its links as the site has them, and its directives in effect.

    Of a link to something that the site does not show, only the words are left.
    """
    start = posixpath.dirname(page_of(path))

    def link(found: re.Match[str]) -> str:
        page = page_of(posixpath.normpath(posixpath.join(posixpath.dirname(path), found["path"])))
        if not page:
            return found["text"][1:-1]
        return f"{found['text']}({posixpath.relpath(page, start or '.')}{found['anchor'] or ''})"

    parts = _FENCE.split(text)
    parts[::2] = [_DIRECTIVE.sub(r"\1", _LINK.sub(link, part)) for part in parts[::2]]
    return "".join(parts)


def example_page(folder: Path) -> str:
    """Return the page of an example: its files, those that a reader writes first."""
    files = sorted(
        (path for path in folder.rglob("*") if path.suffix in _LANGUAGES and "__pycache__" not in path.parts),
        key=lambda path: ("test" in path.name, path.suffix != ".py", path.name != "pipelines.py", path.name),
    )
    shown = [
        f"## {path.relative_to(folder)}\n\n```{_LANGUAGES[path.suffix]}\n{text}```\n"
        for path in files
        if (text := path.read_text("utf-8"))
    ]
    return f"# Example: {folder.name}\n\nThe files of `examples/{folder.name}`.\n\n" + "\n".join(shown)


def loaded_from_elsewhere(site: Path) -> Iterator[str]:
    """Yield what the pages and styles of a built site would load from another server."""
    for path in sorted([*site.rglob("*.html"), *site.rglob("*.css")]):
        for found in _LOADED.findall(path.read_text("utf-8")):
            yield f"{path.relative_to(site)}: {found}"


def whole_navigation(entries: list[Any]) -> list[Any]:
    """Return the navigation of `mkdocs.yml`, with all pages of a folder in place of the folder, such as `adr/`."""
    whole: list[Any] = []
    for entry in entries:
        if isinstance(entry, dict):
            whole.append({title: _pages(inside) for title, inside in entry.items()})
        else:
            whole.append(entry)
    return whole


def _pages(inside: Any) -> Any:
    if isinstance(inside, list):
        return whole_navigation(inside)
    if inside == "examples/":
        return [f"examples/{folder.name}.md" for folder in _examples()]
    if str(inside).endswith("/"):
        names = sorted(path.name for path in (CHECKOUT / "docs" / inside).glob("*.md"))
        return [f"{inside}{name}" for name in sorted(names, key=lambda name: name != "README.md")]
    return inside


def _examples() -> list[Path]:
    return sorted(path for path in (CHECKOUT / "examples").iterdir() if path.is_dir() and any(path.glob("*.py")))


# -- hooks, called by MkDocs


def on_config(config: Any) -> Any:
    """Complete the navigation."""
    config.nav = whole_navigation(config.nav)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from outside `docs`; its own list of documents moves, so that the README is the first page."""
    from mkdocs.structure.files import File  # noqa: PLC0415 - only the site's own environment has it

    if listed := files.get_file_from_path("README.md"):
        files.remove(listed)
    for path, page in PAGES.items():
        files.append(File.generated(config, page, content=(CHECKOUT / path).read_text("utf-8")))
    for folder in _examples():
        files.append(File.generated(config, f"examples/{folder.name}.md", content=example_page(folder)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite the links of a page."""
    moved = {site: path for path, site in PAGES.items()}
    path = str(page.file.src_uri)
    return markdown if path.startswith("examples/") else site_text(markdown, moved.get(path, f"docs/{path}"))


def on_post_build(config: Any) -> None:
    """Fail where a page would load something from another server."""
    from mkdocs.exceptions import PluginError  # noqa: PLC0415

    if elsewhere := list(loaded_from_elsewhere(Path(config.site_dir))):
        raise PluginError("loaded from another server:\n" + "\n".join(elsewhere))
