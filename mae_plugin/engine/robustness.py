"""Metrics of ImageNet-A, -R, -Sketch and -C, on which fine-tuned weights are tested (He et al., 2022, Table 13)."""

import math
import pkgutil
import re
from collections.abc import Sequence
from functools import cache
from pathlib import PurePath

import torch
from mmengine.evaluator import BaseMetric
from timm.data import ImageNetInfo

from ..registry import METRICS

# Top-1 errors of AlexNet, the mean over the five severities of ImageNet-C, that a model's are divided by
# (Hendrycks & Dietterich, 2019; the single ones are in github.com/hendrycks/robustness, issue 10).
ALEXNET_ERRORS = dict(
    gaussian_noise=0.886428, shot_noise=0.894468, impulse_noise=0.922640, defocus_blur=0.819880, glass_blur=0.826268,
    motion_blur=0.785948, zoom_blur=0.798360, snow=0.866816, frost=0.826572, fog=0.819324, brightness=0.564592,
    contrast=0.853204, elastic_transform=0.646056, pixelate=0.717840, jpeg_compression=0.606500)
SEVERITIES = 5
_PATH = re.compile(r'([^/]+)/([1-5])/(n\d{8})/[^/]+$')
_NOT_COUNTED = -1
_SYNSET_LISTS = ('imagenet', 'imagenet_a', 'imagenet_r')  # that timm ships


@cache
def imagenet_classes() -> dict[str, int]:
    """WordNet synset, as ``n01440764``, to class of an ImageNet-1K classifier; folders of classes have these names."""
    return {synset: number for number, synset in enumerate(ImageNetInfo().label_names())}


@METRICS.register_module()
class SynsetAccuracy(BaseMetric):
    """Accuracy of an ImageNet-1K classifier on another set of images of all or some of its classes.

    ImageNet-A and -R have 200 classes each: among their scores the greatest decides, the other 800 are left out, as
    the authors of the sets evaluate. The class of an image is the synset that its folder is named by.

    Args:
        classes: ``'imagenet_a'``, ``'imagenet_r'``, or ``'imagenet'`` for all 1,000.
        topk: Among how many of the greatest scores the class may be.
        collect_device: As of any MMEngine metric.
        prefix: Likewise.

    Raises:
        ValueError: ``classes`` is another.
    """

    default_prefix = 'accuracy'

    def __init__(self, classes: str, topk: Sequence[int] = (1, 5), collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        super().__init__(collect_device, prefix)
        if classes not in _SYNSET_LISTS:
            raise ValueError(f'SynsetAccuracy: classes={classes!r} is not one of {_SYNSET_LISTS}')
        self.classes, self.topk = classes, tuple(topk)
        synsets = pkgutil.get_data('timm.data', f'_info/{classes}_synsets.txt').decode().split()
        self._place = {synset: place for place, synset in enumerate(synsets)}
        self._columns = torch.tensor([imagenet_classes()[synset] for synset in synsets])

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the rank of the true class of each sample: 0 if its score is the greatest.

        Raises:
            ValueError: The folder of an image is not named by a synset of the set.
        """
        for sample in data_samples:
            synset = PurePath(sample['img_path']).parent.name
            if synset not in self._place:
                raise ValueError(f'{sample["img_path"]} lies in no folder of a class of {self.classes}: let '
                                 'test_dataloader.dataset.data_root be the folder that holds n01443537 or the like')
            scores = sample['pred_score'].cpu()[self._columns]
            # What is not less counts against the truth, so that equal scores, or NaN, are no right answer.
            self.results.append(int((~(scores < scores[self._place[synset]])).sum()) - 1)

    def compute_metrics(self, results: list[int]) -> dict:
        """``topN`` in percent."""
        ranks = torch.tensor(results)
        return {f'top{k}': 100 * (ranks < k).double().mean().item() for k in self.topk}


@METRICS.register_module()
class MeanCorruptionError(BaseMetric):
    """Errors on ImageNet-C relative to AlexNet's (Hendrycks & Dietterich, 2019).

    The error of a corruption, averaged over its severities, is divided by AlexNet's; ``mCE`` is the mean over the 15
    corruptions, in percent. Corruption, severity and class are read from the path of an image,
    ``.../<corruption>/<severity>/<synset>/<file>``; those of the benchmark's four extra corruptions do not count.
    """

    default_prefix = 'imagenet-c'

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep of each sample one number: corruption, severity and whether the answer is wrong.

        Raises:
            ValueError: A path tells no corruption, severity and class.
        """
        corruptions, classes = {name: number for number, name in enumerate(ALEXNET_ERRORS)}, imagenet_classes()
        for sample in data_samples:
            found = _PATH.search(sample['img_path'].replace('\\', '/'))
            if found is None or found[3] not in classes:
                raise ValueError(f'{sample["img_path"]} does not end in <corruption>/<severity>/<synset>/<file>: let '
                                 'test_dataloader.dataset.data_root be the folder of ImageNet-C')
            corruption, severity, synset = found.groups()
            scores = sample['pred_score']
            wrong = int(scores.argmax()) != classes[synset] or bool(scores.isnan().any())
            # Small numbers, which Python keeps one of: there are 3.75 million images.
            self.results.append((corruptions[corruption] * SEVERITIES + int(severity) - 1) * 2 + wrong
                                if corruption in corruptions else _NOT_COUNTED)

    def compute_metrics(self, results: list[int]) -> dict:
        """``mCE``, and the relative error of each corruption, in percent.

        Raises:
            ValueError: A corruption or severity has no image.
        """
        counted = torch.tensor([result for result in results if result != _NOT_COUNTED], dtype=torch.int64)
        shape = (len(ALEXNET_ERRORS), SEVERITIES, 2)
        counts = torch.bincount(counted, minlength=math.prod(shape)).view(shape).double()
        absent = [f'{corruption}/{severity + 1}' for number, corruption in enumerate(ALEXNET_ERRORS)
                  for severity in range(SEVERITIES) if not counts[number, severity].any()]
        if absent:
            raise ValueError(f'MeanCorruptionError: no images in {len(absent)} of the 75 folders of ImageNet-C '
                             f'({", ".join(absent[:3])} ...): unpack all of noise, blur, weather and digital')
        errors = (counts[..., 1] / counts.sum(dim=-1)).mean(dim=1) / torch.tensor([*ALEXNET_ERRORS.values()])
        relative = dict(zip(ALEXNET_ERRORS, (100 * errors).tolist(), strict=True))
        return dict(mCE=100 * errors.mean().item(), **relative)
