"""Curves of what the runs of a chain logged."""

import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mae_plugin.visualization.results import METRICS, StageRun

MAE, SCRATCH = '#2568b5', '#c4741a'  # the report's colours of the two starts
_INK = '#010203'  # stands for the colour of the page's text


@dataclass
class Plot:
    """One quantity over the iterations, up to ``end``: lines of (with_mae, iterations, values)."""

    title: str
    end: int
    lines: list[tuple[bool, list[int], list[float]]] = field(default_factory=list)

    def draw(self, axes) -> None:
        """Draw on matplotlib ``axes``."""
        for with_mae, steps, values in self.lines:
            axes.plot(steps, values, color=MAE if with_mae else SCRATCH, linewidth=1.8,
                      marker='o' if len(steps) < 12 else None, markersize=3.5)
        axes.set_title(self.title, loc='left', fontsize=10)
        axes.set_xlabel('iterations', fontsize=9)
        axes.tick_params(labelsize=9, length=3)
        axes.spines[['top', 'right']].set_visible(False)
        axes.grid(axis='y', alpha=.2, linewidth=.8)
        axes.margins(y=.08)
        axes.set_xlim(0, self.end * 1.02)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))

    def to_svg(self) -> str:
        """A picture to be put in a page, in the page's colours and font (the custom properties --mae, --scratch)."""
        ink = {key: _INK for key in ('text.color', 'axes.labelcolor', 'axes.edgecolor', 'xtick.color', 'ytick.color')}
        with matplotlib.rc_context({'svg.fonttype': 'none', **ink}):
            figure = Figure(figsize=(2.9, 2.1), layout='constrained')
            self.draw(figure.subplots())
            file = io.StringIO()
            figure.savefig(file, format='svg', transparent=True,
                           metadata=dict.fromkeys(('Date', 'Creator', 'Format', 'Type')))
        svg = re.sub(r'^.*?(?=<svg)|<!--.*?-->', '', file.getvalue(), flags=re.DOTALL)
        for colour, name in ((_INK, 'currentColor'), (MAE, 'var(--mae)'), (SCRATCH, 'var(--scratch)')):
            svg = svg.replace(colour, name)
        return re.sub(r"'DejaVu Sans'[^;\"]*", 'inherit', svg)


def read_scalars(folder: Path) -> tuple[dict[str, dict[int, float]], dict[str, dict[int, float]]]:
    """What a run logged while training and while validating: name to iteration to value.

    A run that was resumed has several logs: where they overlap, the later one counts.
    """
    training, validation = {}, {}
    for file in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            kind = training if 'lr' in entry else validation
            for key, value in entry.items():
                kind.setdefault(key, {})[entry['step']] = value
    return training, validation


def make_plots(runs: Sequence[StageRun]) -> list[Plot]:
    """For pretraining and each task the training loss and the main metric of the validation."""
    plots = []
    for task in dict.fromkeys(run.task for run in runs):
        key, name, scale = METRICS.get(task, [('mae/psnr', 'PSNR, dB', 1)])[0]
        end = max(run.budget[0] for run in runs if run.task == task)
        loss, metric = Plot(f'{task}: training loss', end), Plot(f'{task}: {name}', end)
        for run in runs:
            if run.task == task:
                training, validation = read_scalars(run.folder)
                for plot, values, factor in ((loss, training.get('loss'), 1), (metric, validation.get(key), scale)):
                    if values:
                        steps = sorted(values)
                        # pretraining is where the encoder with MAE comes from
                        plot.lines.append((run.with_mae or task == 'pretraining', steps,
                                           [values[step] * factor for step in steps]))
        plots += [plot for plot in (loss, metric) if plot.lines]
    return plots


def save_curves(plots: Sequence[Plot], path: Path) -> None:
    """All plots in one picture."""
    columns = 2
    figure = Figure(figsize=(8.4, 2.6 * -(-len(plots) // columns) + .5), dpi=150, layout='constrained')
    axes = figure.subplots(-(-len(plots) // columns), columns, squeeze=False).flat
    for axis in axes[len(plots):]:
        axis.set_visible(False)
    for plot, axis in zip(plots, axes, strict=False):
        plot.draw(axis)
    handles = [matplotlib.lines.Line2D([], [], color=colour, linewidth=2) for colour in (MAE, SCRATCH)]
    figure.legend(handles, ['with MAE', 'from scratch'], loc='outside upper right', ncols=2, frameon=False, fontsize=10)
    figure.savefig(path)
