"""What the demo shows while it runs, and the table at its end."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from rich.console import Console
from rich.live import Live
from rich.table import Table

from demo.comparison import Comparison
from demo.stack import Progress

_WINDOW_SECONDS = 5.0
_SHOWN = 5


class View:
    """A live table on a terminal; elsewhere a line every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._marks: deque[tuple[float, int]] = deque()
        self._printed = -_WINDOW_SECONDS

    def __enter__(self) -> View:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a sentence above the table."""
        self._console.print(text)

    def show(self, seconds: float, phase: str, changes: int, progress: Progress) -> None:
        """Show the progress ``seconds`` after the start, with ``changes`` made in the portal so far."""
        done = progress.acknowledged
        self._marks.append((seconds, done))
        while self._marks[0][0] < seconds - _WINDOW_SECONDS:
            self._marks.popleft()
        first_at, first_done = self._marks[0]
        rate = (done - first_done) / (seconds - first_at) if seconds > first_at else 0.0
        values = {
            "changes": changes,
            "queue": progress.free,
            "open batches": progress.open_batches,
            "events/s": f"{rate:.0f}",
            "acknowledged": done,
            "retried": progress.counters.get("runs_retried", 0),
            "crashed": progress.counters.get("runs_crashed", 0),
            "failed": progress.counters.get("runs_failed", 0),
            "mirror rows": progress.rows,
        }
        if self._live:
            table = Table(title=f"{seconds:4.0f} s  {phase}", title_justify="left")
            for name in values:
                table.add_column(name, justify="right")
            table.add_row(*(str(value) for value in values.values()))
            self._live.update(table)
        elif seconds - self._printed >= _WINDOW_SECONDS:
            self._printed = seconds
            line = "  ".join(f"{name} {value}" for name, value in values.items())
            self._console.print(f"{seconds:4.0f} s  {phase}: {line}", highlight=False, soft_wrap=True)

    def result(self, rows: Mapping[str, object], found: Comparison) -> None:
        """Print the table at the end."""
        table = Table(title="What became of it", title_justify="left", show_header=False)
        table.add_column("what")
        table.add_column("count", justify="right")
        for name, value in rows.items():
            table.add_row(name, str(value))
        table.add_section()
        table.add_row("objects compared with the mirror", str(found.compared))
        for name, what in (("missing", found.missing), ("stale", found.stale), ("extra", found.extra)):
            table.add_row(name, f"[{'red' if what else 'green'}]{len(what)}[/]")
        self._console.print(table)
        for name, what in (("missing", found.missing), ("stale", found.stale), ("extra", found.extra)):
            for entity, object_id in what[:_SHOWN]:
                self._console.print(f"{name}: {entity} {object_id}")
