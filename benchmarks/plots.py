"""Plots of results, as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.measure import BASE, Result


def plot(results: Sequence[Result], path: Path, *, title: str) -> None:
    """Draw a bar for each contestant with its median rate, its spread, and its ratio to the base."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - of the development extra, and slow to import

    figure = Figure(figsize=(9, 0.5 * len(results) + 1.4), layout="constrained")
    axes = figure.subplots()
    rates = [median(one.rates) for one in results]
    below = [rate - min(one.rates) for rate, one in zip(rates, results, strict=True)]
    above = [max(one.rates) - rate for rate, one in zip(rates, results, strict=True)]
    colours = ["#2a6f97" if one.title.startswith("b24offline") else "#9aa5b1" for one in results]
    bars = axes.barh([one.title for one in results], rates, xerr=[below, above], color=colours, capsize=3)
    labels = ["1" if one.name == BASE else f"{one.ratio:.2f}" for one in results]
    axes.bar_label(bars, labels=[f"x {label}" for label in labels], padding=6)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("events per second")
    axes.set_title(title)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=110)
