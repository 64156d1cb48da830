"""Commands that change something: each is written to the audit log before it begins."""

from __future__ import annotations

import getpass
import os
import socket
from typing import Any, Final
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from b24offline.config import Config
from b24offline.runtime import Runtime

BEGUN: Final = "begun"


class Audited(click.Command):
    """A command that is written to the audit log: who, when, which portal, which command.

    Without that line it does nothing. One that does not succeed adds a second line with its end; a dry run adds none.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Add the line, then call the command."""
        if ctx.params.get("dry_run"):
            return super().invoke(ctx)
        runtime = Runtime(Config.load())
        portal = ctx.params.get("portal") or ctx.params.get("name") or ""
        line = {"who": f"{operator()}@{socket.gethostname()}", "portal": portal, "command": command_line(ctx)}
        runtime.store.audit.add(**line, outcome=BEGUN)
        try:
            return super().invoke(ctx)
        except BaseException as error:
            code = error.code if isinstance(error, SystemExit) else None
            runtime.store.audit.add(**line, outcome=f"not done: {type(error).__name__} {code or ''}".rstrip())
            raise
        finally:
            runtime.close()


def command_line(ctx: click.Context) -> str:
    """Return the command as it was given, without secrets: of files the option, of addresses the host."""
    words = ctx.command_path.split()[1:]
    for param in ctx.command.get_params(ctx):
        name = param.name or ""
        if ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        if isinstance(param, click.Option):
            words.append(param.opts[-1])
            if param.is_flag:
                continue
        values = ctx.params.get(name)
        words += [_shown(param, value) for value in (values if isinstance(values, tuple) else (values,))]
    return " ".join(words)


def operator() -> str:
    """Return the name of the account that this command runs under."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"


def _shown(param: click.Parameter, value: Any) -> str:
    if isinstance(param.type, click.File):
        return "FILE"
    text = str(value)
    return urlsplit(text).hostname or "URL" if "://" in text else text
