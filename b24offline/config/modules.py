"""The modules of pipelines, imported with a sentence for each that cannot be."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import TYPE_CHECKING

from b24offline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable


def import_pipelines(names: Iterable[str]) -> None:
    """Import the modules of `B24_PIPELINES`, found in the working directory too. Raise ConfigError that names each
    which cannot be imported, with the line of the mistake.
    """
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    wrong = []
    for name in names:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's module may raise anything
            wrong.append(f"B24_PIPELINES: {name} cannot be imported: {_reason(name, error)}")
    if wrong:
        raise ConfigError("\n".join(wrong))


def _reason(name: str, error: BaseException) -> str:
    """Return what is wrong and where: the last line of the traceback outside of the machinery that imports."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ConfigError):
        return f"{text}."
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}."
    if isinstance(error, ModuleNotFoundError) and error.name and name.startswith(error.name):
        return f"{text}. Run the command in the folder that has it, or set PYTHONPATH."
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    place = f"{frames[-1].filename}, line {frames[-1].lineno}: " if len(frames) > 1 else ""
    return f"{place}{type(error).__name__}: {text}."
