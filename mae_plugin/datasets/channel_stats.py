"""Mean and standard deviation of each channel, over all pixels with data of all images."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Dataset

from .image_io import ImageReadError
from .unlabelled import UnlabelledImages


class Moments(NamedTuple):
    """Number of values, their mean, and the sum of the squared differences from it, of each channel: float64 (C,)."""

    count: np.ndarray
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, pixels: np.ndarray) -> 'Moments':
        """Those of an image (H, W, C), in which NaN does not count."""
        values = pixels.reshape(-1, pixels.shape[-1]).astype(np.float64)
        valid = ~np.isnan(values)
        count = valid.sum(axis=0).astype(np.float64)
        mean = np.where(valid, values, 0).sum(axis=0) / np.maximum(count, 1)
        return cls(count, mean, np.square(np.where(valid, values - mean, 0)).sum(axis=0))

    def merged(self, other: 'Moments') -> 'Moments':
        """Those of both sets of values (Chan, Golub & LeVeque, 1983, equation 2.1)."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        step = other.mean - self.mean
        return Moments(count, self.mean + step * share, self.squares + other.squares + step**2 * self.count * share)

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of each channel, (C,), with the number of values as divisor."""
        return np.sqrt(self.squares / np.maximum(self.count, 1))


class _Images(Dataset):
    def __init__(self, images: UnlabelledImages) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Moments | tuple[str, str]:
        try:
            return Moments.of(self.images.read(index).pixels())
        except ImageReadError as error:
            return self.images.path(index), str(error)


def _as_it_is(found: Any) -> Any:
    """PyTorch's own conversion would make tensors of NumPy's arrays."""
    return found


def channel_stats(images: UnlabelledImages, workers: int = 0) -> Iterator[tuple[Moments | None, Any]]:
    """Read whole images, each once, and merge what they hold in their order, whatever the number of workers.

    Yields:
        After each image the moments so far, None if there are none yet, and (path, reason) if it could not be read.
    """
    total = None
    for found in DataLoader(_Images(images), batch_size=None, num_workers=workers, collate_fn=_as_it_is):
        if isinstance(found, Moments):
            total = total.merged(found) if total else found
        yield total, None if isinstance(found, Moments) else found
