"""Writes `docs/settings.md` and `.env.example` from the descriptions in `Config`.

`python -m tools.settings_docs` writes both into the checkout; with `--check` it only says whether they
are up to date, and ends with 1 when they are not.
"""

from __future__ import annotations

import textwrap
from typing import Final

from b24offline.config import FILE_SUFFIX, Config, Variable, variables
from tools.generated import writer

_MARKDOWN_HEAD: Final = """\
# Settings

Everything is set by environment variables; they are read once, at the start of a process. An empty variable
counts as unset, an unknown variable that begins with `B24_` stops the start. A wrong value is answered by a
sentence that names the variable and shows a right one.

A secret can be a file instead: put its path into the variable with `_FILE` behind its name, for example
`B24_CLIENT_SECRET_FILE=/run/secrets/client_secret`. Its content is read without blanks around it; giving both
is an error. Secrets, passwords inside addresses included, are never shown.

`.env` is not read by the processes themselves; `docker compose` and your shell do that. Start from
`.env.example`.

This page is made from the code: `python -m tools.settings_docs`.

| variable | default | meaning |
|---|---|---|
"""

_ENV_HEAD: Final = """\
# Settings of b24offline. Copy to .env and fill in what differs; what is commented out has the value shown.
# Made from the code by: python -m tools.settings_docs
"""


def markdown() -> str:
    """Return the text of `docs/settings.md`."""
    return _MARKDOWN_HEAD + "".join(map(_table_row, _settings()))


def env_example() -> str:
    """Return the text of `.env.example`: every variable commented out, below its meaning."""
    return _ENV_HEAD + "".join(map(_env_lines, _settings()))


def documents() -> dict[str, str]:
    """Return what this module writes: path inside the checkout, and text."""
    return {".env.example": env_example(), "docs/settings.md": markdown()}


def _settings() -> list[Variable]:
    return [variable for variable in variables(Config) if variable.public]


def _table_row(variable: Variable) -> str:
    meaning = variable.description.replace("|", "\\|")
    default = ", ".join(f"`{part}`" for part in variable.default.split(",") if part) or variable.derived
    secret = f" A secret: also as `{variable.name}{FILE_SUFFIX}`." if variable.secret else ""
    return f"| `{variable.name}` | {default} | {meaning}{secret} |\n"


def _env_lines(variable: Variable) -> str:
    meaning = "".join(f"# {line}\n" for line in textwrap.wrap(variable.description, 100))
    file = f"# Or as a file: {variable.name}{FILE_SUFFIX}=/run/secrets/...\n" if variable.secret else ""
    derived = f"# Default: {variable.derived}\n" if variable.derived else ""
    return f"\n{meaning}{derived}{file}#{variable.name}={variable.default}\n"


main = writer("tools.settings_docs", documents)

if __name__ == "__main__":
    main()
