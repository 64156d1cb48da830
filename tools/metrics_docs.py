"""Writes the table of `docs/metrics.md` from the definitions of the exporter.

`python -m tools.metrics_docs` writes it between the two marks in the document; with `--check` it only says whether it
is up to date, and ends with 1 when it is not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from b24offline.metrics import GROUPS, Definition

_CHECKOUT: Final = Path(__file__).resolve().parent.parent
_DOCUMENT: Final = "docs/metrics.md"
BEGIN: Final = "<!-- made by: python -m tools.metrics_docs -->\n"
END: Final = "<!-- end of what is made -->\n"


def tables() -> str:
    """Return the tables, a group of metrics each."""
    return "".join(
        f"\n### {title}\n\n| metric | kind | labels | of portals | meaning |\n|---|---|---|---|---|\n"
        + "".join(map(_row, group))
        for title, group in GROUPS.items()
    )


def _row(metric: Definition) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.full_name}` | {metric.kind} | {labels} | {metric.of} | {metric.help} |\n"


def renewed(text: str) -> str:
    """Return a document with the tables of the code between its marks. Raise ValueError where they are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{_DOCUMENT} lacks the marks between which the tables are written")
    return f"{before}{begin}{tables()}\n{end}{after}"


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail when the document is out of date.")
@click.option(
    "--checkout",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=_CHECKOUT,
    help="Root of the checkout.",
)
def main(check: bool, checkout: Path) -> None:
    """Write the tables of docs/metrics.md."""
    document = checkout / _DOCUMENT
    text = document.read_text("utf-8")
    if text == renewed(text):
        return
    if check:
        raise click.ClickException(f"{_DOCUMENT} differs from the code; run: python -m tools.metrics_docs")
    document.write_text(renewed(text), "utf-8")
    click.echo(f"wrote {_DOCUMENT}")


if __name__ == "__main__":
    main()
