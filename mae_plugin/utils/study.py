"""What pretraining is worth: every task from several starts, with several shares of the labels, and several seeds.

A chain (:mod:`mae_plugin.utils.chain`) with a ``study`` has these stages after its own, which pretrain::

    study = dict(tasks=dict(detect='configs/detection/x.py'), starts={'pretrained': 'pretrain', 'from scratch': None},
                 labels=[100, 10], seeds=3)
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mae_plugin.utils.chain import Stage, read_stages


def read_chain(cfg: Mapping[str, Any], options: Sequence[str], source: str) -> list[Stage]:
    """The stages of the chain config ``source``, with those of its ``study``; ``options`` are ``STAGE.key=value``.

    Raises:
        ValueError: They are not what :class:`~mae_plugin.utils.chain.Stage` and :func:`label_study` describe.
    """
    stages, study = cfg.get('stages'), cfg.get('study')
    if study:
        try:
            stages = [*(stages or ()), *label_study(**study)]
        except (TypeError, ValueError) as error:
            raise ValueError(f'{source}: study: {error}') from error
    return read_stages(stages, options, source)


def work_dir_of(cfg: Mapping[str, Any], source: str) -> str:
    """Where the chain config ``source`` is run, unless the command line says otherwise."""
    return cfg.get('work_dir') or f'work_dirs/{Path(source).stem}'


def label_study(tasks: Mapping[str, str], starts: Mapping[str, str | None], labels: Sequence[int] = (100, 30, 10),
                seeds: int = 3, scratch: Mapping[str, Mapping[str, Any]] | None = None) -> list[dict[str, Any]]:
    """The stages of a chain that compare starts, first all with one seed, then all with the next.

    Args:
        tasks: Name of a task to its config, whose training data set is a ``mae_plugin.LabelShare``.
        starts: What a start is called in tables to the pretraining stage whose checkpoint it is, None for random
            weights.
        labels: Shares of the labelled images, in percent.
        seeds: How many; a seed draws the labels, the weights that are not pretrained, and the order of the images.
        scratch: Task to settings of its runs from random weights, where they differ from fine-tuning.

    Raises:
        ValueError: ``scratch`` names no task, ``labels`` are no whole percents, or two starts are the same.
    """
    unknown = [task for task in scratch or () if task not in tasks]
    if unknown:
        raise ValueError(f'scratch names {unknown[0]!r}, which is none of the tasks {", ".join(tasks)}')
    wrong = [percent for percent in labels if not isinstance(percent, int) or not 1 <= percent <= 100]
    if wrong:
        raise ValueError(f'labels={list(labels)}: {wrong[0]} is not a whole percentage from 1 to 100')
    if len({parent or 'scratch' for parent in starts.values()}) < len(starts):
        raise ValueError(f'starts={dict(starts)}: two of them are the same; random weights are called scratch')
    stages = []
    for seed in range(seeds):
        for percent in labels:
            for task, config in tasks.items():
                for start, parent in starts.items():
                    options = {'randomness.seed': seed, 'train_dataloader.dataset.seed': seed,
                               'train_dataloader.dataset.share': percent / 100}
                    if parent is None:
                        options |= {'model.backbone.init_cfg': None, **(scratch or {}).get(task, {})}
                    stages.append(dict(
                        name=re.sub(r'\W+', '-', f'{task}_{parent or "scratch"}_{percent}_{seed}'),
                        config=config, cfg_options=options, init_from=parent,
                        about=dict(task=task, start=start, labels=percent, seed=seed)))
    return stages
