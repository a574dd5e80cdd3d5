"""What the cells of an ablation reached, as a picture."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from mae_plugin.utils.ablation import Row
from mae_plugin.visualization.curves import MAE


def plot_rows(rows: Sequence[Row], columns: Sequence[str], title: str, file: Path) -> None:
    """Draw a panel for each column as SVG: a dot for each seed, a line through the means, where cells are numbers.

    Args:
        rows: The cells, in order.
        columns: What was measured; each has its own scale, as in Figure 5 of the paper.
        title: Of the horizontal axis.
        file: To write.
    """
    numbers = _numbers([row.cell for row in rows])
    places = numbers or list(range(len(rows)))
    with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': ''}):  # the same file for the same numbers
        figure = Figure(figsize=(4.2 * len(columns), 3), layout='constrained')
        for axes, column in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
            known = [(place, row.mean(column)) for place, row in zip(places, rows, strict=True) if row.values[column]]
            axes.plot(*zip(*known, strict=True) if known else ([], []), color=MAE, linewidth=1.5 if numbers else 0)
            for place, row in zip(places, rows, strict=True):
                axes.plot([place] * len(row.values[column]), row.values[column], 'o', color=MAE, markersize=4)
            if numbers and min(numbers) > 0 and max(numbers) / min(numbers) > 12:
                axes.set_xscale('log')
            axes.set_xticks(places, [row.cell for row in rows], rotation=30, ha='right', rotation_mode='anchor')
            axes.tick_params(labelsize=8)
            axes.minorticks_off()
            axes.set_title(column, loc='left', fontsize=10)
            axes.set_xlabel(title, fontsize=9)
            axes.grid(axis='y', alpha=.2)
            axes.spines[['top', 'right']].set_visible(False)
        figure.savefig(file, format='svg', metadata={'Date': None})


def _numbers(names: Sequence[str]) -> list[float] | None:
    """The cells as numbers, if all are; ``'75 %'`` and ``'1/8'`` are."""
    try:
        return [float(Fraction(name.rstrip(' %'))) for name in names]
    except ValueError:
        return None
