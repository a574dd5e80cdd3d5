"""What the stages of a chain reached, with MAE and from scratch: as a table, and in plain words."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mae_plugin.utils.chain import Chain

TASKS = {'mmpretrain': 'classification', 'mmdet': 'detection', 'mmseg': 'segmentation'}  # by default_scope
# For each task, the main one first: the key in MMEngine's log, our name, and the factor that makes it a percentage.
METRICS = {
    'classification': [('accuracy/top1', 'top-1 accuracy', 1)],
    'detection': [('coco/bbox_mAP', 'box AP', 100), ('coco/bbox_mAP_50', 'box AP50', 100),
                  ('coco/segm_mAP', 'mask AP', 100)],
    'segmentation': [('mIoU', 'mIoU', 1)],
}
_CLEAR = 3.  # points; two single runs on a few hundred images differ by less by chance


@dataclass
class StageRun:
    """A training stage of a chain and what is there of it.

    Args:
        name: Its name in the chain.
        config: Its config, as the chain names it.
        task: ``'pretraining'``, or one of ``TASKS``.
        with_mae: It starts from the pretrained encoder.
        cfg: The config as the run wrote it down, or, before that, as the chain gives it.
        folder: Its work directory.
        record: Its entry in ``chain.json``; empty if it never began.
        processes: How many train it.
    """

    name: str
    config: str
    task: str
    with_mae: bool
    cfg: Any
    folder: Path
    record: dict[str, Any]
    processes: int = 1

    @property
    def finished(self) -> bool:
        """The stage ran to its end, and its checkpoint is still there."""
        return self.record.get('status') == 'finished' and self.checkpoint.is_file()

    @property
    def checkpoint(self) -> Path:
        """Its last checkpoint."""
        return self.folder.parent / self.record['checkpoint']

    @property
    def budget(self) -> tuple[int, int]:
        """Iterations, and images in each, over all processes."""
        iterations, images = self.cfg.train_cfg.max_iters, self.record.get('images_seen')
        return iterations, images // iterations if images else self.cfg.train_dataloader.batch_size * self.processes

    @property
    def images(self) -> int:
        """Images seen in training."""
        iterations, batch = self.budget
        return iterations * batch

    def metric(self, key: str) -> float | None:
        """A number of its last validation; mmdet reports none at all when nothing was found, which is an AP of 0."""
        if not self.finished:
            return None
        metrics = self.record.get('metrics', {})
        return metrics.get(key, 0. if self.task == 'detection' and not metrics else None)


def read_runs(chain: Chain) -> list[StageRun]:
    """The training stages of a chain, in order.

    Raises:
        ValueError: A stage is neither pretraining nor a task of ``TASKS``, or does not count iterations.
    """
    from mmengine.config import Config
    runs = []
    for name, stage in chain.stages.items():
        if stage.config is None:
            continue
        folder = chain.work_dir / name
        dumped = folder / Path(stage.config).name
        cfg = Config.fromfile(dumped) if dumped.is_file() else chain.configs[name]
        pretraining = cfg.model.type == 'mae_plugin.MaskedAutoencoder'
        task = 'pretraining' if pretraining else TASKS.get(cfg.get('default_scope'))
        if task is None or 'max_iters' not in cfg.train_cfg:
            raise ValueError(f'stage {name!r} cannot be reported: {stage.config} must count iterations, and be '
                             f'pretraining or have a default_scope of {", ".join(TASKS)}')
        with_mae = stage.init_from is not None
        runs.append(StageRun(name, stage.config, task, with_mae, cfg, folder, chain.record.get(name, {}),
                             max(chain.processes(stage), 1)))
    return runs


def find(runs: Iterable[StageRun], task: str, with_mae: bool = False) -> StageRun | None:
    """The first of ``runs`` for a task and start."""
    return next((run for run in runs if run.task == task and run.with_mae == with_mae), None)


def firsts(runs: Iterable[StageRun]) -> list[StageRun]:
    """The first run for each task and start: what pictures and curves show of a chain with many."""
    return list({(run.task, run.with_mae): run for run in reversed(list(runs))}.values())[::-1]


@dataclass
class Row:
    """One metric of a task, in percent; ``None`` where a stage has not finished."""

    task: str
    metric: str
    mae: float | None
    scratch: float | None
    images: str

    @property
    def difference(self) -> float | None:
        """What pretraining adds."""
        return None if self.mae is None or self.scratch is None else self.mae - self.scratch


def compare(runs: Sequence[StageRun]) -> list[Row]:
    """The rows of all tasks that the chain has; a metric that neither run knows is left out."""
    rows = []
    for task, metrics in METRICS.items():
        pair = [find(runs, task, with_mae) for with_mae in (True, False)]
        if pair == [None, None]:
            continue
        images = ' / '.join(sorted({f'{run.images:,}' for run in pair if run}))
        reported = {key for run in pair if run for key in run.record.get('metrics', {})}
        known = [metric for metric in metrics if metric[0] in reported]
        for key, name, scale in known or metrics[:1]:
            values = [run.metric(key) if run else None for run in pair]
            rows.append(Row(task, name, *(None if value is None else value * scale for value in values), images))
    return rows


def verdict(rows: Sequence[Row]) -> str:
    """What the rows of one task say about pretraining, in one sentence, also where it did not help."""
    absent = [name for name, value in (('with MAE', rows[0].mae), ('from scratch', rows[0].scratch)) if value is None]
    if absent:
        return f'Nothing to compare: the run {" and the run ".join(absent)} did not finish.'
    if all(row.mae == row.scratch == 0 for row in rows):
        return 'Both are at 0: this budget is too short to say anything.'
    better = [row for row in rows if row.difference >= _CLEAR]
    worse = [row for row in rows if row.difference <= -_CLEAR]
    if better and worse:
        return f'Mixed: better in {_against(better)}; worse in {_against(worse)}.'
    if better:
        return f'Pretraining helped: {_against(better)}.'
    if worse:
        return f'Pretraining did not help within this budget: {_against(worse)}.'
    return f'No clear difference: {_against(rows)}. Less than three points may be chance.'


def verdicts(rows: Sequence[Row]) -> dict[str, str]:
    """Task to sentence."""
    tasks = dict.fromkeys(row.task for row in rows)
    return {task: verdict([row for row in rows if row.task == task]) for task in tasks}


def pretraining_summary(runs: Sequence[StageRun]) -> str:
    """How pretraining ended, in one sentence."""
    run = find(runs, 'pretraining')
    if run is None or not run.finished:
        return 'Pretraining has not finished.'
    return (f'Pretraining saw {run.images:,} images without labels and ended with a loss of '
            f'{run.metric("mae/masked_loss"):.3f} on the hidden patches of held-out images, '
            f'PSNR {run.metric("mae/psnr"):.1f} dB.')


def number(value: float | None, sign: bool = False) -> str:
    """``value`` with one decimal; a dash for None."""
    return '–' if value is None else f'{value:{"+" if sign else ""}.1f}'


def results_table(rows: Sequence[Row]) -> str:
    """The rows as text."""
    head = ('task', 'metric', 'with MAE', 'from scratch', 'difference', 'images seen')
    return text_table([head, *((row.task, row.metric, number(row.mae), number(row.scratch),
                                number(row.difference, sign=True), row.images) for row in rows)], left=2)


def text_table(rows: Sequence[Sequence[str]], left: int) -> str:
    """Columns of text, the first ``left`` of them flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join('  '.join(cell.ljust(width) if i < left else cell.rjust(width)
                               for i, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
                     for row in rows)


def _against(rows: Sequence[Row]) -> str:
    return ', '.join(f'{row.metric} {row.mae:.1f} with MAE, {row.scratch:.1f} from scratch' for row in rows)
