"""What pretraining was worth in a study (:mod:`mae_plugin.utils.study`): tables, and label efficiency as a picture."""

import csv
import io
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import matplotlib
from matplotlib.figure import Figure

from mae_plugin.utils.chain import Chain
from mae_plugin.visualization.curves import MAE, SCRATCH
from mae_plugin.visualization.results import METRICS, TASKS

_COLOURS = (MAE, '#5f9c6b', '#8a5fb0', '#777')  # of starts with pretraining


@dataclass
class Row:
    """One metric of one task, start and share of the labels.

    Args:
        task: As the study calls it.
        metric: Its name.
        start: What the network starts from, as the study calls it.
        labels: Share of the labelled images, in percent.
        from_scratch: It starts from random weights.
        values: Seed to percent.
        times: Seed to seconds of wall time.
    """

    task: str
    metric: str
    start: str
    labels: int
    from_scratch: bool = False
    values: dict[int, float] = field(default_factory=dict)
    times: dict[int, float] = field(default_factory=dict)

    @property
    def mean(self) -> float | None:
        """Over the seeds; None before the first has finished."""
        return statistics.mean(self.values.values()) if self.values else None

    @property
    def spread(self) -> float | None:
        """Standard deviation of a sample over the seeds; None for fewer than two."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else None

    @property
    def seconds(self) -> float | None:
        """Wall time of a run, the mean over the seeds; None before the first has finished."""
        return statistics.mean(self.times.values()) if self.times else None

    def __str__(self) -> str:
        if self.mean is None:
            return '–'
        return f'{self.mean:.1f}' if self.spread is None else f'{self.mean:.1f} ± {self.spread:.1f}'


def read_rows(chain: Chain) -> list[Row]:
    """What the stages of a study have reached, in their order; those that have not finished give no value.

    A run that did not report a metric has no value for it; but a detector that found nothing has an AP of 0.

    Raises:
        ValueError: No stage of the chain has an ``about``.
    """
    stages = {name: stage for name, stage in chain.stages.items() if stage.about}
    if not stages:
        raise ValueError('this chain has no study, which says what to compare: see docs/studies.md')
    reported = {(stage.about['task'], key) for name, stage in stages.items()
                for key in chain.record.get(name, {}).get('metrics', ())}
    rows: dict[tuple, Row] = {}
    for name, stage in stages.items():
        kind, record = TASKS[chain.configs[name].default_scope], chain.record.get(name, {})
        task, start, labels, seed = (stage.about[key] for key in ('task', 'start', 'labels', 'seed'))
        for key, metric, factor in METRICS[kind]:
            if key == 'coco/segm_mAP' and (task, key) not in reported:  # a detector without masks
                continue
            row = rows.setdefault((task, metric, start, labels),
                                  Row(task, metric, start, labels, from_scratch=stage.init_from is None))
            if record.get('status') != 'finished':
                continue
            row.times[seed] = record['seconds']
            metrics = record['metrics']
            if key in metrics or kind == 'detection' and not metrics:
                row.values[seed] = factor * metrics.get(key, 0.)
    return list(rows.values())


def tables(rows: Sequence[Row]) -> dict[tuple[str, str], list[list[str]]]:
    """Task and metric to lines: a head with the starts, then a line for each share of the labels."""
    found = {}
    for task, metric in dict.fromkeys((row.task, row.metric) for row in rows):
        mine = {(row.labels, row.start): row for row in rows if (row.task, row.metric) == (task, metric)}
        starts = list(dict.fromkeys(start for _, start in mine))
        found[task, metric] = [['', *starts], *(
            [f'{labels} % of the labels', *(str(mine[labels, start]) for start in starts)]
            for labels in dict.fromkeys(labels for labels, _ in mine))]
    return found


def markdown(rows: Sequence[Row]) -> str:
    """A table for each metric: a line for each share of the labels, a column for each start."""
    parts = []
    for (task, metric), ((_, *starts), *body) in tables(rows).items():
        lines = [[f'{task.capitalize()}, {metric}', *starts], ['---', *['---:'] * len(starts)], *body]
        parts.append('\n'.join(f'| {" | ".join(line)} |' for line in lines))
    return '\n\n'.join(parts) + '\n'


def said_of_seeds(rows: Sequence[Row]) -> str:
    """How many seeds the numbers are of, in words."""
    numbers = sorted({len(row.values) for row in rows if row.values}) or [0]
    if numbers[-1] < 2:
        return 'one seed, so without a spread'
    fewer = f'{numbers[0]} to ' if numbers[0] < numbers[-1] else ''
    return f'mean ± standard deviation of {fewer}{numbers[-1]} seeds'


def as_csv(rows: Sequence[Row]) -> str:
    """One line for each row, with the value of each seed."""
    seeds = sorted({seed for row in rows for seed in row.values})
    file = io.StringIO()
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(['task', 'metric', 'start', 'labels', 'mean', 'std', *(f'seed {seed}' for seed in seeds),
                     'seconds'])
    for row in rows:
        numbers = [row.mean, row.spread, *(row.values.get(seed) for seed in seeds), row.seconds]
        writer.writerow([row.task, row.metric, row.start, row.labels,
                         *('' if number is None else f'{number:.2f}' for number in numbers)])
    return file.getvalue()


def study_svg(rows: Sequence[Row]) -> str:
    """A panel for each metric as SVG: a dot for each seed, a line through the means of each start.

    Args:
        rows: As :func:`read_rows` gives them.
    """
    metrics = list(dict.fromkeys((row.task, row.metric) for row in rows))
    starts = list(dict.fromkeys(row.start for row in rows))
    scratch = {row.start for row in rows if row.from_scratch}
    colours = {start: SCRATCH if start in scratch else _COLOURS[i % len(_COLOURS)] for i, start in enumerate(starts)}
    with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': ''}):  # the same file for the same numbers
        figure = Figure(figsize=(3.1 * len(metrics), 3.2), layout='constrained')
        for axes, (task, metric) in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
            for start in starts:
                mine = sorted((row for row in rows if (row.task, row.metric, row.start) == (task, metric, start)
                               and row.values), key=lambda row: row.labels)
                axes.plot([row.labels for row in mine], [row.mean for row in mine], color=colours[start], label=start)
                for row in mine:
                    axes.plot([row.labels] * len(row.values), list(row.values.values()), 'o', color=colours[start],
                              markersize=3.5, alpha=.7)
            labels = sorted({row.labels for row in rows})
            axes.set_xscale('log')
            axes.set_xticks(labels, [f'{percent} %' for percent in labels])
            axes.minorticks_off()
            axes.tick_params(labelsize=8)
            axes.set_title(f'{task}: {metric}', loc='left', fontsize=10)
            axes.set_xlabel('labelled images', fontsize=9)
            axes.grid(axis='y', alpha=.2)
            axes.spines[['top', 'right']].set_visible(False)
        figure.legend(*axes.get_legend_handles_labels(), loc='outside lower center', ncols=len(starts), frameon=False,
                      fontsize=9)
        file = io.StringIO()
        figure.savefig(file, format='svg', metadata={'Date': None})
    return re.sub(r'^.*?(?=<svg)', '', file.getvalue(), flags=re.DOTALL)
