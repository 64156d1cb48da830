"""What an error of a step looks like outside of it: in Flower, in Celery's events and in logs."""

from __future__ import annotations

from b24offline.errors import B24OfflineError


class StepFailed(Exception):
    """Stands for the error of a step: names its class, and has its traceback, which shows code only.

    The text of an error may quote what the step worked on, so it stays behind.
    """


def showable(error: BaseException) -> BaseException:
    """Return the error to raise or log instead, without what caused it: one of this package as it is, else a
    `StepFailed`.

    The texts of this package's errors hold no customer's data; that of a `Permanent` is its author's.
    """
    if isinstance(error, B24OfflineError):
        error.__cause__ = None
        return error
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return StepFailed(name).with_traceback(error.__traceback__)
