"""Draws `docs/images/dashboard.png`: the graphs of the dashboard, of a deployment under load with faults.

`python -m tests.dashboard` takes two minutes and needs Prometheus on the PATH.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

from tests.support.busy import Watched, busy
from tools.dashboard import ROWS, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TARGET = Path(__file__).resolve().parents[2] / "docs" / "images" / "dashboard.png"
COLUMNS = 3
NAMED = 6
UNITS = {"s": "seconds", "ops": "a second", "bytes": "bytes", "percentunit": "share", "short": ""}


def draw(axes: Axes, panel: Panel, watched: Watched) -> None:
    """Draw one graph; lines that stay at 0 are left out where there are others."""
    lines = watched.panel(panel)
    moving = {name: points for name, points in lines.items() if any(value for _, value in points)} or lines
    for name, points in sorted(moving.items(), key=lambda line: -max(value for _, value in line[1]))[:NAMED]:
        axes.plot(*zip(*points, strict=True), label=name, linewidth=1.2)
    axes.set_title(panel.title, fontsize=9, loc="left", fontweight="bold")
    axes.set_ylim(bottom=0)
    axes.set_ylabel(UNITS[panel.unit], fontsize=7)
    axes.tick_params(labelsize=7)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.legend(fontsize=6, loc="upper left", frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def main() -> None:
    """Run the deployment and write the picture."""
    lines = [panel for row in ROWS.values() for panel in row]
    with tempfile.TemporaryDirectory() as folder, busy(Path(folder)) as watched:
        height = -(-len(lines) // COLUMNS)
        figure, axes = plt.subplots(height, COLUMNS, figsize=(15, 2.3 * height), sharex=True)
        for place, panel in zip(axes.flat, lines, strict=True):
            draw(place, panel, watched)
        for place in axes[-1]:
            place.set_xlabel("seconds", fontsize=7)
        figure.tight_layout()
        figure.savefig(TARGET, dpi=72, pil_kwargs={"optimize": True})
    print(f"wrote {TARGET.name}, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
