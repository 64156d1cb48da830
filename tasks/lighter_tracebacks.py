"""What Celery keeps of a traceback when a task fails or is retried, without what nobody reads.

Its copy has the position of every instruction of every function on the way: 100 to 600 kB, which wait for the collector
of garbage, as the task's frame and its error refer to each other.
"""

from __future__ import annotations

from typing import Any, Final

_NOWHERE: Final = (None, None, None, None)


def drop_traceback(info: Any) -> None:
    """Drop the copy of a retry: what is shown of it is text already."""
    info.tb = None


def lighten_traceback(info: Any) -> None:
    """Keep of each frame of a failure the position where it stood: its log line shows them."""
    copied = info.tb
    while copied is not None:
        code: Any = getattr(copied.tb_frame, "f_code", None)
        positions = getattr(code, "_co_positions", None)  # from Python 3.11 on, and not where it is cut short
        if positions is not None:
            here = copied.tb_lasti // 2
            code._co_positions = [_NOWHERE] * here + positions[here : here + 1]
        copied = copied.tb_next
