"""A share of the labelled images of a data set: how many labels are enough?"""

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS as ALL_DATASETS

from ..registry import DATASETS


@DATASETS.register_module(name='LabelShare')
def label_share(dataset: dict | BaseDataset, share: float = 1., seed: int = 0) -> BaseDataset:
    """Keep a random share of a data set of mmpretrain, mmdet or mmseg, the same one for a seed.

    Images are drawn from each class by itself, at least one of each; with boxes, the class is that of the first one,
    with several labels each combination is one, and with label maps all images are of one class. Smaller shares of a
    seed are parts of larger ones, so that a curve over them adds labels and exchanges none. It stands around the data
    set in a config, and gives the data set itself::

        dataset=dict(type='mae_plugin.LabelShare', share=0.1, seed=0, dataset=dict(type='CocoDataset', ...))

    Args:
        dataset: Config of the data set, or the data set.
        share: What is kept, in (0, 1].
        seed: Of the choice.

    Raises:
        ValueError: ``share`` is not in (0, 1], or the data set holds others (``ConcatDataset``).
    """
    if not 0 < share <= 1:
        raise ValueError(f'LabelShare: share={share!r} is not in (0, 1], the part of the labelled images to keep')
    if isinstance(dataset, dict):
        dataset = ALL_DATASETS.build(dataset)
    if not isinstance(dataset, BaseDataset):
        raise ValueError(f'LabelShare takes a data set with annotations of its own, not a {type(dataset).__name__}: '
                         'put a LabelShare around each of those that it holds')
    if share < 1:
        dataset.full_init()
        classes = [_class_of(dataset.get_data_info(i)) for i in range(len(dataset))]
        dataset.get_subset_(choose(classes, share, seed))
    return dataset


def choose(classes: Sequence[Any], share: float, seed: int) -> list[int]:
    """Positions of a share of each class, at least one of each, in ascending order.

    For a seed, those of a smaller share are among those of a larger one.
    """
    members = defaultdict(list)
    for i, label in enumerate(classes):
        members[label].append(i)
    draw = random.Random(seed)
    chosen = []
    for label in sorted(members, key=str):  # in the same order whatever image comes first
        draw.shuffle(members[label])
        chosen += members[label][:max(1, round(share * len(members[label])))]
    return sorted(chosen)


def _class_of(info: dict) -> Any:
    if 'instances' in info:
        return next((instance.get('bbox_label') for instance in info['instances']), None)
    label = info.get('gt_label')
    if isinstance(label, list | tuple):  # of several labels: which of them there are
        return tuple(label)
    return label if isinstance(label, int | str | None) else int(label)  # of NumPy
