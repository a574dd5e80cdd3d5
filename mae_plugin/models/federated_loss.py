"""The loss of a data set in which an image is labelled for some of the classes only."""

import json
import mmap
import os
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..registry import MODELS

_CHUNK = 1 << 24  # bytes; LVIS's 1,203 categories take about one million


def class_image_counts(ann_file: str | os.PathLike) -> list[int]:
    """Images that hold each class of an LVIS annotation file, in the order of the class ids.

    Only the categories are parsed: LVIS's training file takes a gigabyte, and every process asks.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Its categories have no ``image_count``.
    """
    if not Path(ann_file).is_file():
        raise FileNotFoundError(f'FederatedLoss: there is no {ann_file}, whose categories count their images')
    with open(ann_file, 'rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        start = re.search(rb'"categories"\s*:\s*', text)
        part = text[start.end():start.end() + _CHUNK] if start else b''
    try:
        categories, _ = json.JSONDecoder().raw_decode(part.decode(errors='ignore'))
        return [category['image_count'] for category in sorted(categories, key=lambda category: category['id'])]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f'FederatedLoss: {ann_file} has no list of "categories" that each have an "id" and an '
                         '"image_count", as the annotations of LVIS have') from None


@MODELS.register_module()
class FederatedLoss(nn.Module):
    """Federated loss (Zhou et al., 2021) as in detectron2's ViTDet for LVIS: sigmoid cross entropy over some classes.

    LVIS does not say of every class whether an image holds it. So a batch is judged by the classes that its regions
    have, background counted as one of them, and by others drawn without replacement with probabilities proportional to
    ``image_count ** freq_power``, to ``num_sample`` in all. The loss is the sum over regions and these classes,
    divided by the number of regions. Use it as ``loss_cls`` of mmdet's box head.

    Args:
        ann_file: LVIS annotations for training, whose categories have ``image_count``; read at the first loss.
        num_sample: Classes that are judged in a batch at least, background included where there is some.
        freq_power: Power of the image count in the probability to be drawn.
    """

    custom_cls_channels = custom_activation = custom_accuracy = True  # what mmdet's BBoxHead asks

    def __init__(self, ann_file: str, num_sample: int = 50, freq_power: float = .5) -> None:
        super().__init__()
        self.ann_file, self.num_sample, self.freq_power = ann_file, num_sample, freq_power
        self.frequencies: Tensor | None = None

    def get_cls_channels(self, num_classes: int) -> int:
        """Outputs of the classifier: one, unused, for the background."""
        return num_classes + 1

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Probabilities (R, classes + 1); the last, of the background, means nothing."""
        return cls_score.sigmoid()

    def get_accuracy(self, cls_score: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Share, in percent, of the regions with an object whose class has the highest score."""
        objects = labels < cls_score.size(1) - 1
        right = cls_score[objects, :-1].argmax(dim=1) == labels[objects]
        return dict(acc=100 * right.float().sum() / max(len(right), 1))

    def sampled_classes(self, labels: Tensor, num_classes: int) -> Tensor:
        """Mask (classes,) of the classes that are judged for regions with these ``labels`` (R,)."""
        if self.frequencies is None:
            self.frequencies = torch.tensor(class_image_counts(self.ann_file)).float() ** self.freq_power
            if len(self.frequencies) != num_classes:
                raise ValueError(f'FederatedLoss: {self.ann_file} has {len(self.frequencies)} classes, '
                                 f'the box head has num_classes={num_classes}')
        present = labels.unique()
        chosen = torch.zeros(num_classes + 1, device=labels.device)
        chosen[present] = 1
        if len(present) < self.num_sample:
            others = F.pad(self.frequencies.to(labels.device), (0, 1)) * (1 - chosen)
            missing = min(self.num_sample - len(present), int((others > 0).sum()))
            if missing:
                chosen[others.multinomial(missing)] = 1
        return chosen[:-1]

    def forward(self, cls_score: Tensor, labels: Tensor, weight: Tensor | None = None, avg_factor: float | None = None,
                reduction_override: str | None = None) -> Tensor:
        """Loss, a scalar, of scores (R, classes + 1) for labels (R,), the number of classes being background.

        ``weight`` (R,) are mmdet's, 0 or 1, of the regions; ``avg_factor`` is what the sum is divided by, R if None.
        """
        num_classes = cls_score.size(1) - 1
        target = F.one_hot(labels, num_classes + 1)[:, :-1].to(cls_score)
        loss = F.binary_cross_entropy_with_logits(cls_score[:, :-1], target, reduction='none')
        loss = loss * self.sampled_classes(labels, num_classes)
        if weight is not None:
            loss = loss * weight[:, None]
        return loss.sum() / (avg_factor or len(labels))
