"""Metrics of ImageNet-A, -R, -Sketch and -C, on which fine-tuned weights are tested (He et al., 2022, Table 13)."""

import math
import re
from collections.abc import Sequence
from functools import cache

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


@cache
def imagenet_classes() -> dict[str, int]:
    """WordNet synset, as ``n01440764``, to class of an ImageNet-1K classifier; folders of classes have these names."""
    return {synset: number for number, synset in enumerate(ImageNetInfo().label_names())}


@METRICS.register_module()
class SynsetAccuracy(BaseMetric):
    """Accuracy of an ImageNet-1K classifier on images of some of its classes.

    The classes of the data set are synsets. Among their scores the greatest decides; all others are left out, as the
    authors of ImageNet-A and -R (200 classes each) evaluate.

    Args:
        num_classes: Number of classes the data set must have.
        topk: Among how many of the greatest scores the class may be.
        collect_device: As of any MMEngine metric.
        prefix: Likewise.
    """

    default_prefix = 'accuracy'

    def __init__(self, num_classes: int, topk: Sequence[int] = (1, 5), collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        super().__init__(collect_device, prefix)
        self.num_classes, self.topk = num_classes, tuple(topk)
        self._columns = None

    @property
    def columns(self) -> torch.Tensor:
        """Where the scores of the data set's classes are among the 1,000.

        Raises:
            ValueError: The data set has another number of classes, or classes that are no synsets of ImageNet-1K.
        """
        if self._columns is None:
            classes, known = self.dataset_meta['classes'], imagenet_classes()
            unknown = [name for name in classes if name not in known]
            if unknown or len(classes) != self.num_classes:
                raise ValueError(
                    f'SynsetAccuracy: the data set has {len(classes)} folders of classes instead of {self.num_classes}'
                    + (f', {len(unknown)} of them ({unknown[0]} ...) no synset of ImageNet-1K' if unknown else '')
                    + ': let test_dataloader.dataset.data_root be the folder that holds n01440764 or the like')
            self._columns = torch.tensor([known[name] for name in classes])
        return self._columns

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the rank of the true class of each sample: 0 if its score is the greatest."""
        for sample in data_samples:
            scores = sample['pred_score'].cpu()[self.columns]
            self.results.append(int((scores > scores[int(sample['gt_label'])]).sum()))

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
            wrong = int(sample['pred_score'].argmax()) != classes[synset]
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
