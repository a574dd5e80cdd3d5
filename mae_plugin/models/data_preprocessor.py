"""From a list of uint8 images on the CPU to one normalised batch on the device."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseDataPreprocessor

from ..datasets.encoded import EncodedCrop, EncodedImages
from ..registry import MODELS


@MODELS.register_module()
class MAEDataPreprocessor(BaseDataPreprocessor):
    """Stack, move, then normalise: the bytes cross the bus as uint8, a quarter of float32.

    Args:
        mean: Mean of each channel, in pixel values 0 to 255.
        std: Standard deviation of each channel, likewise.
        non_blocking: Let the copy to the device overlap with computation; needs pinned memory to have an effect.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], non_blocking: bool = True) -> None:
        super().__init__(non_blocking)
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f'mean={list(mean)} and std={list(std)} need one number a channel, those of std above 0')
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
        """Normalise ``data['inputs']``, a list of uint8 (C, H, W) or a tensor (B, C, H, W), to float32 (B, C, H, W).

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
        data = self.cast_data(dict(data, inputs=imgs))
        data['inputs'] = (data['inputs'].float() - self.mean) / self.std
        return data

    def to_pixels(self, imgs: torch.Tensor) -> torch.Tensor:
        """Undo the normalisation: (B, C, H, W) in pixel values, not clipped."""
        return imgs * self.std + self.mean
