"""An ablation: the same chain of stages once for each of its cells, which differ by a few settings.

It is a config of ``configs/ablations``, with the ``stages`` of a chain (:mod:`mae_plugin.utils.chain`) and::

    title = 'Depth of the decoder'
    note = 'A tiny model on synthetic scenes.'                     # for the table
    metrics = {'fine-tune': ('finetune', 'accuracy/top1')}         # name of a column: (stage, key in its log)
    sizes = dict(cpu=dict(pretrain={'train_cfg.max_iters': 5000}), gpu=...)  # changes of stages for all cells
    cells = {'1 block': dict(pretrain={'model.neck.decoder_depth': 1}), '2 blocks': {}}  # changes of stages, {}: none
    paper = {'1 block': {'fine-tune': 84.8}}                       # what to print beside it

A value that differs with the size is a dict of them: ``{'train_cfg.max_iters': dict(cpu=1250, gpu=1000)}``.

A cell is run in ``work_dir/runs/HASH``, where the hash is of all its resolved configs. So cells of several ablations
that come to the same, as the default does, are run once.
"""

import csv
import json
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mae_plugin.utils.chain import Chain, Stage, differences, hash_of, read_stages, table
from mae_plugin.utils.cli import describe

_SETTINGS = ('title', 'note', 'stages', 'metrics', 'sizes', 'cells', 'paper', 'work_dir')


@dataclass
class Run:
    """One cell with one seed.

    Args:
        cell: Its name.
        seed: Of all its stages.
        chain: Its stages, in the folder of its hash.
    """

    cell: str
    seed: int
    chain: Chain

    @property
    def folder(self) -> Path:
        """Where it is run: ``runs/HASH``."""
        return self.chain.work_dir

    @property
    def state(self) -> str:
        """'new', 'finished', or 'continues'."""
        states = {self.chain.state(stage) for stage in self.chain.stages.values()}
        return states.pop() if states in ({'new'}, {'finished'}) else 'continues'

    @property
    def seconds(self) -> float:
        """Wall time of its stages."""
        return sum(record.get('seconds', 0) for record in self.chain.record.values())

    def metric(self, stage: str, key: str) -> float | None:
        """A number of the last validation of a stage; None until the stage has finished."""
        record = self.chain.record.get(stage, {})
        return record.get('metrics', {}).get(key) if record.get('status') == 'finished' else None

    def facts(self) -> dict[str, Any]:
        """What is noted when it ends: ``parameters`` of the first stage's model, ``machine``; empty before."""
        file = self.folder / 'facts.json'
        if self.state != 'finished':
            return {}
        if not file.is_file():
            from mae_plugin.visualization.report import environment
            from mae_plugin.weights.safe_load import load_file
            first = next(record for record in self.chain.record.values() if record.get('checkpoint'))
            state = load_file(self.folder / first['checkpoint'])['state_dict']
            facts = dict(parameters=sum(tensor.numel() for tensor in state.values()), **environment())
            file.write_text(json.dumps(facts, indent=1))
        return json.loads(file.read_text())


@dataclass
class Row:
    """A cell with all its seeds.

    Args:
        cell: Its name.
        values: Column to one number for each seed that has finished.
        paper: Column to the paper's number.
        seconds: Mean wall time of a seed; None until one has finished.
        parameters: Of the first stage's model, in pretraining encoder and decoder.
    """

    cell: str
    values: dict[str, list[float]]
    paper: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    parameters: int | None = None

    def mean(self, column: str) -> float | None:
        """Mean over the seeds, None before the first."""
        return statistics.mean(self.values[column]) if self.values[column] else None

    def spread(self, column: str) -> float | None:
        """Standard deviation of a sample over the seeds, None for fewer than two."""
        return statistics.stdev(self.values[column]) if len(self.values[column]) > 1 else None


class Ablation:
    """Plans and runs the cells of an ablation, and writes what came out.

    Args:
        cfg: The config as a dict.
        source: Its path, which names the folder of the results.
        work_dir: Gets ``runs/`` and ``NAME_SIZE/`` with ``table.csv``, ``table.md`` and ``plot.svg``; by default what
            the config says. Ablations that share it share their runs.
        size: A key of ``sizes``; by default the first.
        seeds: Runs of each cell, with the seeds from 0.
        options: ``STAGE.KEY=VALUE`` for all cells.

    Raises:
        ValueError: The config is not one of an ablation, or an override names what its config does not have.
    """

    def __init__(self, cfg: dict[str, Any], source: str, work_dir: str | os.PathLike | None = None,
                 size: str | None = None, seeds: int = 1, options: Sequence[str] = ()) -> None:
        if seeds < 1:
            raise ValueError(f'--seeds {seeds}: give the number of runs of each cell, at least 1')
        self.source, self.seeds = source, seeds
        _check(cfg, source)
        sizes = cfg.get('sizes') or {'default': {}}
        self.size = size or next(iter(sizes))
        if self.size not in sizes:
            raise ValueError(f'{source} has no size {self.size!r}: it has {", ".join(sizes)}')
        self.title, self.note = cfg.get('title', Path(source).stem), cfg.get('note', '')
        self.metrics, self.paper = cfg['metrics'], cfg.get('paper', {})
        top = Path(work_dir or cfg.get('work_dir') or 'work_dirs/ablations')
        self.folder = top / f'{Path(source).stem}_{self.size}'
        self.failures: dict[tuple[str, int], str] = {}

        def build(changes: dict[str, dict], seed: int, where: str) -> Chain:
            try:
                changes = (sizes[self.size], _for_size(changes, self.size, sizes))
                chain = Chain(_stages(cfg['stages'], changes, seed, options, source), top, rerun=True)
            except (ValueError, KeyError) as error:
                raise ValueError(f'{where}: {describe(error)}') from error
            chain.move_to(top / 'runs' / _hash(chain))
            return chain

        self.default = build({}, 0, source)  # to compare with; run only if it is a cell, too
        self.runs = [Run(cell, seed, build(changes, seed, f'{source}, cell {cell!r}'))
                     for cell, changes in cfg['cells'].items() for seed in range(seeds)]

    def plan(self, only: Sequence[str] = ()) -> str:
        """A table of what will be done, with what makes each cell another than the default."""
        rows = [('cell', 'seed', 'state', 'minutes', 'folder', 'differs from the default by')]
        first: dict[Path, str] = {}
        for run in self._chosen(only):
            lines = [f'{name}: {line}' for name, stage in run.chain.stages.items()
                     for line in differences(self.default.inputs(self.default.stages[name]), run.chain.inputs(stage))
                     if not line.startswith(('parent', 'config.randomness.seed'))]
            same = first.setdefault(run.folder, run.cell)
            note = f'nothing: it is {same!r}' if same != run.cell else '; '.join(lines) or 'nothing'
            spent = f'{run.seconds / 60:.1f}' if run.seconds else ''
            rows.append((run.cell, str(run.seed), run.state, spent, run.folder.name, note))
        return f'{self.title}, size {self.size}\n{table(rows)}'

    def commands(self, only: Sequence[str] = ()) -> list[str]:
        """What would be run, as one would type it."""
        return [command for run in self._chosen(only) for command in run.chain.commands()]

    def run(self, only: Sequence[str] = ()) -> None:
        """Run what is not finished; a cell that fails is noted, and the next one is run."""
        for run in self._chosen(only):
            run.chain.move_to(run.folder)  # what an earlier cell of the same content did
            print(f'== {self.title}: {run.cell}, seed {run.seed}, in {run.folder}', flush=True)
            try:
                run.chain.run()
                self._check_metrics(run)
            except Exception as error:
                self.failures[run.cell, run.seed] = describe(error)
                print(f'== {run.cell}, seed {run.seed} failed: {describe(error)}', flush=True)
            self.write()
        self.write()

    def _check_metrics(self, run: Run) -> None:
        for column, (stage, key) in self.metrics.items():
            if run.metric(stage, key) is None:
                known = run.chain.record[stage]['metrics']
                raise ValueError(f'metrics[{column!r}]: stage {stage!r} logged no {key!r}; it logged '
                                 f'{", ".join(known) or "nothing"}')

    def rows(self) -> list[Row]:
        """What is known, in the order of the cells."""
        rows = []
        for cell in dict.fromkeys(run.cell for run in self.runs):
            runs = [run for run in self.runs if run.cell == cell]
            finished = [run for run in runs if run.state == 'finished']
            values = {column: [value for run in finished if (value := run.metric(*where)) is not None]
                      for column, where in self.metrics.items()}
            seconds = statistics.mean(run.seconds for run in finished) if finished else None
            parameters = finished[0].facts()['parameters'] if finished else None
            rows.append(Row(cell, values, self.paper.get(cell, {}), seconds, parameters))
        return rows

    def write(self) -> None:
        """Write ``table.csv``, ``table.md`` and ``plot.svg`` with what has finished."""
        rows = self.rows()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_csv(rows)
        (self.folder / 'table.md').write_text(self.markdown(rows), encoding='utf-8')
        from mae_plugin.visualization.ablation_plot import plot_rows
        plot_rows(rows, list(self.metrics), self.title, self.folder / 'plot.svg')

    def markdown(self, rows: Sequence[Row]) -> str:
        """The table in Markdown, with what was run above it."""
        papers = [column for column in self.metrics if any(column in row.paper for row in rows)]
        head = [self.title]
        for column in self.metrics:
            head += [column, f"{column}, paper's"] if column in papers else [column]
        lines = [head + ['minutes', 'parameters']]
        for row in rows:
            cells = [row.cell]
            for column in self.metrics:
                cells.append(_with_spread(row.mean(column), row.spread(column)))
                if column in papers:
                    cells.append(_number(row.paper.get(column)))
            cells.append('–' if row.seconds is None else f'{row.seconds / 60:.1f}')
            cells.append('–' if row.parameters is None else f'{row.parameters / 1e6:.2f} M')
            lines.append(cells)
        lines.insert(1, ['---'] + ['---:'] * (len(lines[0]) - 1))
        text = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
        failed = ''.join(f'\n{cell}, seed {seed}, failed: {reason}\n' for (cell, seed), reason in self.failures.items())
        return f'{self.note}\n{self._what_was_run()}\n\n{text}\n{failed}'.lstrip()

    def _what_was_run(self) -> str:
        amounts = [f'{name} {self.default.amount(stage)[0]}' for name, stage in self.default.stages.items()]
        machines = sorted({facts['machine'] for run in self.runs if (facts := run.facts())})
        hours = sum({run.folder: run.seconds for run in self.runs}.values()) / 3600
        seeds = f'{self.seeds} seeds: mean ± standard deviation' if self.seeds > 1 else 'one seed, so no spread'
        return (f'`{self.source}`, size {self.size}; iterations by default: {", ".join(amounts)}; {seeds}; '
                f'{hours:.1f} hours on {"; ".join(machines) or "nothing yet"}')

    def _write_csv(self, rows: Sequence[Row]) -> None:
        head = ['cell']
        for column in self.metrics:
            head += [column, f'{column} std', f'{column} paper', *(f'{column} run {i}' for i in range(self.seeds))]
        with open(self.folder / 'table.csv', 'w', newline='', encoding='utf-8') as file:
            writer = csv.writer(file)
            writer.writerow([*head, 'seconds', 'parameters'])
            for row in rows:
                cells = [row.cell]
                for column in self.metrics:
                    values = row.values[column]
                    cells += [row.mean(column), row.spread(column), row.paper.get(column), *values,
                              *[None] * (self.seeds - len(values))]
                writer.writerow([*cells, row.seconds and round(row.seconds, 1), row.parameters])

    def _chosen(self, only: Sequence[str]) -> list[Run]:
        return [run for run in self.runs if not only or run.cell in only]

    @property
    def cells(self) -> list[str]:
        """The names of the cells."""
        return list(dict.fromkeys(run.cell for run in self.runs))


def _check(cfg: dict[str, Any], source: str) -> None:
    """Refuse a config whose entries do not fit each other."""
    for name in ('stages', 'metrics', 'cells'):
        if not cfg.get(name):
            raise ValueError(f'{source} is not an ablation: it has no {name}; see mae_plugin/utils/ablation.py')
    unknown = [name for name in cfg if name not in _SETTINGS]
    if unknown:
        raise ValueError(f'{source}: an ablation has no {unknown[0]!r}; it has {", ".join(_SETTINGS)}')
    stages = [entry.get('name') for entry in cfg['stages']]
    for column, (stage, _) in cfg['metrics'].items():
        if stage not in stages:
            raise ValueError(f'{source}: metrics[{column!r}] is of {stage!r}, which is no stage: {", ".join(stages)}')
    for cell, columns in cfg.get('paper', {}).items():
        if cell not in cfg['cells'] or not set(columns) <= set(cfg['metrics']):
            raise ValueError(f'{source}: paper[{cell!r}]={columns} is of no cell ({", ".join(cfg["cells"])}) or of no '
                             f'metric ({", ".join(cfg["metrics"])})')


def _stages(raw: list[dict], changes: Sequence[dict[str, dict]], seed: int, options: Sequence[str],
            source: str) -> list[Stage]:
    """The stages with the ``changes`` of size and cell, the seed, and what the command line says."""
    names = [entry.get('name') for entry in raw]
    for name in (name for part in changes for name in part):
        if name not in names:
            raise ValueError(f'{name!r} is no stage: {", ".join(map(str, names))}')
    merged = []
    for entry in raw:
        parts = [entry.get('cfg_options', {}), *(part.get(entry.get('name'), {}) for part in changes)]
        if entry.get('config'):
            parts.append({'randomness.seed': seed})
        merged.append({**entry, 'cfg_options': {key: value for part in parts for key, value in part.items()}})
    return read_stages(merged, options, source)


def _for_size(changes: dict[str, dict], size: str, sizes: dict) -> dict[str, dict]:
    """The changes of a cell, where values that are dicts of sizes are replaced by the one of ``size``."""
    def choose(key, value):
        if not isinstance(value, dict) or not value or not set(value) <= set(sizes):
            return value
        if size not in value:
            raise ValueError(f'{key}={value} has no value for the size {size!r}')
        return value[size]
    return {stage: {key: choose(key, value) for key, value in options.items()} for stage, options in changes.items()}


def _hash(chain: Chain) -> str:
    """Of all that decides the results, but for the checkpoints that its stages hand on."""
    return hash_of({name: {**chain.inputs(stage), 'parent': stage.init_from}
                    for name, stage in chain.stages.items()})[:12]


def _number(value: float | None) -> str:
    return '–' if value is None or math.isnan(value) else f'{value:.1f}'


def _with_spread(mean: float | None, spread: float | None) -> str:
    return _number(mean) if spread is None else f'{_number(mean)} ± {spread:.1f}'
