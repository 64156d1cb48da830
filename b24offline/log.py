"""How the processes log: one readable line a record.

Messages are constants; variable parts are fields, passed by the `extra` argument of the logging call. `Redaction` is a
second line of defence: it removes what looks like one of our secrets.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from typing import Final, Literal, TextIO

from b24offline.contract import TASK_TICK
from b24offline.errors import B24OfflineError

LogFormat = Literal["line", "json"]

_KEPT_CHARACTERS: Final = 4_000
_NOT_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "data"}
"""Attributes of every record, and Celery's copy of its own message."""
_NAMES: Final = (
    r"access_token|refresh_token|client_secret|application_token|auth(?:orization)?|AUTH_ID|REFRESH_ID|password|passwd"
    r"|secret_key|secret"
)
_SHAPES: Final = (
    # name=value and "name": "value", also as PHP sends it (auth[access_token]=...) and percent-encoded
    (
        re.compile(
            rf"""(?ix) (?: (?<![a-z]) | (?<=%5B) )
            ((?:b24_)?(?:{_NAMES}) (?:\]|%5D)? \\*["']? \s*(?:=|:|%3D)\s* \\*["']? (?:bearer\s+)?)
            (?!\*\*\*) [^\s"'&,;\\)}}\]]+"""
        ),
        r"\1***",
    ),
    (re.compile(r"(?i)(\bbearer\s+)[a-z0-9._~+/=-]+"), r"\1***"),
    # the user part of an address; the scheme is left out because searching a long text for it is slow
    (re.compile(r"(://)[^\s/\"']*@"), r"\1***@"),
    # the code of an incoming webhook
    (re.compile(r"(/rest/[0-9]+/)[A-Za-z0-9]+"), r"\1***"),
)


def redact(text: str) -> str:
    """Return the text with everything that looks like one of our secrets replaced by stars."""
    for shape, replacement in _SHAPES:
        text = shape.sub(replacement, text)
    return text


class Redaction(logging.Filter):
    """Removes secrets from a record's message, fields and traceback; drops no record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place. Return True, always."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            # an exception would reach the caller of the logging method
            message = f"{record.msg} (its arguments do not fit)"
        record.msg, record.args = redact(message), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        for name, value in fields_of(record).items():
            if re.fullmatch(_NAMES, name, re.IGNORECASE):
                setattr(record, name, "***")
            elif not isinstance(value, bool | int | float | None):
                setattr(record, name, redact(str(value)))
        return True


class LineFormatter(logging.Formatter):
    """`2026-11-23 20:41:07.120 INFO    b24offline.poll | batch reserved | portal=acme records=50`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line; a traceback follows with its line breaks shown as `\\n`."""
        moment = datetime.fromtimestamp(record.created, UTC)
        clock = f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}"
        parts = [
            f"{clock} {record.levelname:<7} {record.name}",
            record.getMessage(),
            " ".join(f"{name}={_bare(value)}" for name, value in fields_of(record).items()),
            self.formatException(record.exc_info) if record.exc_info and not record.exc_text else record.exc_text or "",
        ]
        return " | ".join(_one_line(part) for part in parts if part)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: the fields of the record, then time, level, logger, message and traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fixed: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        traceback = record.exc_text or (self.formatException(record.exc_info) if record.exc_info else "")
        if traceback:
            fixed["traceback"] = traceback
        return json.dumps({**fields_of(record), **fixed}, default=str)


class IdleTicks(logging.Filter):
    """Makes DEBUG of what Celery says at INFO of each tick; that of one that had something to do ends at INFO."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self._level = level

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is logged at this level."""
        if record.levelno == logging.INFO and _tells_of_an_idle_tick(record):
            record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return record.levelno >= self._level


def _tells_of_an_idle_tick(record: logging.LogRecord) -> bool:
    if record.name == "celery.beat":
        return isinstance(record.args, tuple) and TASK_TICK in record.args
    if not record.name.startswith("celery."):
        return False
    told = getattr(record, "data", None)
    return isinstance(told, dict) and told.get("name") == TASK_TICK and "due: " not in str(told.get("return_value"))


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Return what the caller passed as `extra`, in that order."""
    return {name: value for name, value in vars(record).items() if name not in _NOT_FIELDS}


class StepFailed(Exception):
    """Stand for an error of a step: the class's name and the traceback, which shows code only.

    The text of the error may quote what the step worked on, so it is left out.
    """


def showable(error: Exception) -> Exception:
    """Return the error to raise or log instead, without its cause: one of this package as it is, else a `StepFailed`.

    The texts of this package's errors hold no customer data; that of a `Permanent` is its author's.
    """
    if isinstance(error, B24OfflineError):
        error.__cause__ = None
        return error
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return StepFailed(name).with_traceback(error.__traceback__)


def configure(
    level: str = "INFO", stream: TextIO | None = None, *, file: str | None = None, log_format: LogFormat = "line"
) -> None:
    """Send all log records of this process to one place, instead of the handlers set up before.

    Args:
        level: least severity that is logged, "DEBUG" to "CRITICAL".
        stream: default: standard error, so that commands keep standard output for their results.
        file: a file to append to instead; it is opened again when it was moved away.
        log_format: a line to read, or JSON for a program.
    """
    handler = WatchedFileHandler(file) if file else logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter() if log_format == "json" else LineFormatter())
    handler.addFilter(IdleTicks(logging.getLevelNamesMapping()[level]))
    handler.addFilter(Redaction())
    root = logging.getLogger()
    for former in root.handlers[:]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(level)
    # urllib3 logs whole addresses at DEBUG, and those of the token endpoint hold secrets
    logging.getLogger("urllib3").setLevel(max(logging.INFO, logging.getLevelNamesMapping()[level]))


def _bare(value: object) -> str:
    text = str(value)[:_KEPT_CHARACTERS]
    return json.dumps(text) if not text or any(character in ' "=|' for character in text) else text


def _one_line(text: str) -> str:
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
