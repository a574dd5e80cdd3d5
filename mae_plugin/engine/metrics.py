"""How good a reconstruction is."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric

from ..registry import METRICS


@METRICS.register_module()
class MaskedReconstruction(BaseMetric):
    """Loss and PSNR on hidden patches.

    ``masked_loss`` is the mean over images of what pretraining minimises. ``psnr`` is ``10 log10(255^2 / mse)`` in dB,
    with the mean squared error over all hidden pixels in pixel values; where the target is normalised, brightness and
    contrast of each patch are taken from the image. There is none where the target cannot be turned back into pixels.
    """

    default_prefix = 'mae'

    def __init__(self, data_range: float = 255, **kwargs) -> None:
        super().__init__(**kwargs)
        if data_range <= 0:
            raise ValueError(f'MaskedReconstruction: data_range={data_range!r} is not above 0')
        self.data_range = data_range

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep ``masked_loss`` and, where there is one, ``masked_mse`` of each sample."""
        self.results += [tuple(float(sample[key]) for key in ('masked_loss', 'masked_mse') if key in sample)
                         for sample in data_samples]

    def compute_metrics(self, results: list[tuple[float, ...]]) -> dict:
        """``masked_loss`` and ``psnr`` over all images with data."""
        loss, *mse = torch.tensor(results, dtype=torch.float64).nanmean(dim=0)
        metrics = dict(masked_loss=loss.item())
        if mse:
            metrics['psnr'] = 10 * torch.log10(self.data_range**2 / mse[0]).item()
        return metrics
