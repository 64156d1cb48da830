"""Documents that are made from the code: written into the checkout, or compared with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import click

CHECKOUT: Final = Path(__file__).resolve().parent.parent

Documents = Mapping[str, str]
"""Path inside the checkout -> text."""


def outdated(checkout: Path, documents: Documents) -> list[str]:
    """Return the documents that this checkout lacks, or has with another text."""
    return [
        name
        for name, text in documents.items()
        if not (checkout / name).is_file() or (checkout / name).read_text("utf-8") != text
    ]


def writer(module: str, make: Callable[[], Documents]) -> click.Command:
    """Return the command of a module that makes documents: writes them, or with ``--check`` only compares."""

    @click.command(help=f"Write {' and '.join(make())} from the code.")
    @click.option("--check", is_flag=True, help="Write nothing; fail when a document is out of date.")
    @click.option(
        "--checkout",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        default=CHECKOUT,
        help="Root of the checkout.",
    )
    def write(check: bool, checkout: Path) -> None:
        documents = make()
        stale = outdated(checkout, documents)
        if check and stale:
            raise click.ClickException(f"{' and '.join(stale)} differ from the code; run: python -m {module}")
        for name in stale:
            target = checkout / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(documents[name], "utf-8")
            click.echo(f"wrote {name}")

    return write
