"""What is done to the images that the backbone sees: the tasks of denoising autoencoders.

Vincent et al., 2008 (ICML), section 2.3; 2010 (JMLR 11), section 3.3. Each number is a function of the sample's key and
of the pixel alone, so that the corruption depends neither on the batch nor on the worker. Validation corrupts, too: its
loss is that of training.
"""

from abc import ABC, abstractmethod
from math import sqrt

import torch
from torch import Tensor, nn

from ..registry import MODELS
from .masking import Samples, sample_keys, uniform_noise

# Random numbers at once: hashing takes three tensors of int64, 64 MB each. Few enough parts that a GPU stays busy.
_AT_ONCE = 2**23


class Corruption(nn.Module, ABC):
    """Base of corruptions: a strategy says by :meth:`corrupt` what becomes of an image, given random numbers.

    Attributes:
        per_channel: Whether it wants a random number for each channel of a pixel, or one for all of them.
    """

    per_channel = False

    def forward(self, imgs: Tensor, data_samples: Samples = None) -> Tensor:
        """``imgs`` (B, C, H, W), normalised, corrupted; the clean ones stay as they are."""
        _, C, H, W = imgs.shape
        channels = C if self.per_channel else 1
        step = max(_AT_ONCE // (channels * H * W), 1)
        keys = sample_keys(data_samples)
        done = []
        for i in range(0, imgs.size(0), step):
            part = imgs[i:i + step]
            noise = uniform_noise(None if keys is None else keys[i:i + step], (len(part), channels * H * W),
                                  'corruption', imgs.device)
            done.append(self.corrupt(part, noise.view(-1, channels, H, W)))
        return torch.cat(done)

    @abstractmethod
    def corrupt(self, imgs: Tensor, noise: Tensor) -> Tensor:
        """Some of the images (b, C, H, W), given uniform noise in [0, 1), (b, C or 1, H, W)."""


@MODELS.register_module()
class GaussianNoise(Corruption):
    """Add Gaussian noise to each channel of each pixel.

    Args:
        std: Its standard deviation, in the units of the normalised image, whose own is about 1.

    Raises:
        ValueError: If ``std`` is not positive.
    """

    per_channel = True

    def __init__(self, std: float = .5) -> None:
        super().__init__()
        if not std > 0:
            raise ValueError(f'model.corruption.std={std} has to be positive')
        self.std = std

    def corrupt(self, imgs: Tensor, noise: Tensor) -> Tensor:
        """By the inverse of the distribution; 2^-24 makes multiples of 2^-23 in [-1, 1) symmetric, without an end."""
        return imgs + sqrt(2) * self.std * (2 * noise - 1 + 2**-24).erfinv()


class _OfPixels(Corruption):
    """Base of those that change a share of the pixels, each drawn on its own."""

    def __init__(self, ratio: float = .25) -> None:
        super().__init__()
        if not 0 < ratio < 1:
            raise ValueError(f'model.corruption.ratio={ratio} is the share of corrupted pixels and lies between 0 and '
                             '1, both excluded')
        self.ratio = ratio


@MODELS.register_module()
class MaskingNoise(_OfPixels):
    """Set pixels, all channels of them, to 0: the mean.

    Args:
        ratio: The probability of each pixel, in (0, 1).

    Raises:
        ValueError: If ``ratio`` is another.
    """

    def corrupt(self, imgs: Tensor, noise: Tensor) -> Tensor:
        """See :meth:`Corruption.corrupt`."""
        return imgs * (noise >= self.ratio)


@MODELS.register_module()
class SaltAndPepper(_OfPixels):
    """Set pixels, all channels of them, to the lowest or to the highest value, with equal probability.

    The extremes are those of each channel of the image itself: so it needs to know neither mean nor standard deviation,
    and serves channels of any range.

    Args:
        ratio: The probability of each pixel, in (0, 1).

    Raises:
        ValueError: If ``ratio`` is another.
    """

    def corrupt(self, imgs: Tensor, noise: Tensor) -> Tensor:
        """See :meth:`Corruption.corrupt`."""
        low, high = imgs.amin((2, 3), keepdim=True), imgs.amax((2, 3), keepdim=True)
        return torch.where(noise < self.ratio, torch.where(noise < self.ratio / 2, low, high), imgs)
