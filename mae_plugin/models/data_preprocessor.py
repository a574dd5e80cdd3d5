"""From a list of images on the CPU, uint8 as a rule, to one normalised batch on the device."""

import logging
from collections.abc import Sequence

import torch
from mmengine.logging import print_log
from mmengine.model import BaseDataPreprocessor

from ..datasets.encoded import EncodedCrop, EncodedImages
from ..registry import MODELS

_COMPARED = 16  # images of the first batch


@MODELS.register_module()
class MAEDataPreprocessor(BaseDataPreprocessor):
    """Stack, move, then normalise: the bytes cross the bus as uint8, a quarter of float32.

    The first batch of a training is compared with ``mean`` and ``std``; a warning says so if it is very far from them.

    Args:
        mean: Mean of each channel, in the values of the images: 0 to 255, or those of the files with ``mode='array'``;
            ``tools/channel_stats.py`` finds it.
        std: Standard deviation of each channel, likewise.
        non_blocking: Let the copy to the device overlap with computation; needs pinned memory to have an effect.
        nodata: NaN in the images means that there is no data; it stays NaN, and :class:`MaskedAutoencoder` learns
            nothing there. The tools set it for data with ``arrays=dict(nodata=...)``.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], non_blocking: bool = True,
                 nodata: bool = False) -> None:
        super().__init__(non_blocking)
        self.nodata = nodata
        self._compared = False
        if not mean or not std or len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f'data_preprocessor.mean={mean} and std={std} need one number a channel, those of std '
                             'above 0')
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    def decode(self, data: dict) -> dict:
        """Decode the images that the workers left to the device; other batches are returned as they are.

        On a GPU the host waits for the current stream; ``train_cfg.prefetch`` has it done one batch ahead, in a thread
        and on a stream of its own.

        Args:
            data: with ``inputs``, and ``data_samples`` if they are to be told, as ``bad_images``, the (path, reason)
                of a file that cannot be decoded. Another image of the batch takes its place.

        Returns:
            ``data`` with ``inputs`` as uint8 (B, C, h, w).
        """
        images = data['inputs']
        if isinstance(images, list) and any(isinstance(image, EncodedCrop) for image in images):
            images = EncodedImages(images)  # of a loader without collate_batch
        if not isinstance(images, EncodedImages):
            return data
        images, bad = images.decode(self.mean.device)
        for position, error in bad.items() if data.get('data_samples') else ():
            sample = data['data_samples'][position]
            sample.set_metainfo(dict(bad_images=(*sample.get('bad_images', ()), (sample.img_path, str(error)))))
        return dict(data, inputs=images)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalise ``data['inputs']``, a list of (C, H, W) or a tensor (B, C, H, W), to float32 (B, C, H, W).

        Encoded images are decoded first.

        Raises:
            ValueError: If the images differ in size or have other channels than ``mean``.
        """
        data = self.decode(data)
        imgs = data['inputs']
        if not isinstance(imgs, torch.Tensor):
            shapes = {tuple(img.shape) for img in imgs}
            if len(shapes) > 1:
                raise ValueError(f'the images of a batch differ in shape: {sorted(shapes)}; crop or resize to one size')
            imgs = torch.stack(imgs)
        if imgs.size(1) != self.mean.size(0):
            raise ValueError(f'images have {imgs.size(1)} channels, data_preprocessor.mean has {self.mean.size(0)}')
        if training and not self._compared:  # once the host may wait for the device; the first step is never recorded
            self._compared = True
            self._compare(imgs)
        data = self.cast_data(dict(data, inputs=imgs))
        data['inputs'] = (data['inputs'].float() - self.mean) / self.std
        return data

    def _compare(self, imgs: torch.Tensor) -> None:
        """Warn if a channel of the first images is 10 sigma from its mean, or varies 100 times as much or little."""
        known = zip(self.mean.flatten().tolist(), self.std.flatten().tolist(), strict=True)
        for channel, (mean, std) in enumerate(known):
            values = imgs[:_COMPARED, channel].double()
            values = values[values.isfinite()]
            if len(values) < 2:
                continue
            found, spread = values.mean().item(), values.std().item()
            if abs(found - mean) > 10 * std or spread > 100 * std or 0 < spread < std / 100:
                print_log(f'the values of channel {channel} in the first batch, {found:.4g} with a standard deviation '
                          f'of {spread:.4g}, are far from data_preprocessor.mean={mean:.4g} and std={std:.4g}: '
                          'tools/channel_stats.py finds those of your data', 'current', logging.WARNING)
                return

    def to_pixels(self, imgs: torch.Tensor) -> torch.Tensor:
        """Undo the normalisation: (B, C, H, W) in pixel values, not clipped; NaN stays NaN."""
        return imgs * self.std + self.mean
