"""Networks that give targets and are no part of the model."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn

from ..utils.hashing import file_sha256
from ..weights.checkpoint import tensors_in
from ..weights.safe_load import load_file


class FrozenNetwork:
    """A network that looks at the images the model is trained on, and learns nothing.

    Not a submodule of the target that holds it: so it is not in the checkpoint, the optimizer, the moving average or
    what DDP compares, no ``init_weights`` or ``train()`` reaches it, and it goes to the device of the images by itself.

    Args:
        network: Any module.
        pixel_mean: Mean by which the model's images are normalised, in pixel values 0 to 255.
        pixel_std: Standard deviation, likewise.
        mean: What the network's images are normalised by, of values from 0 to 1.
        std: Likewise.

    Raises:
        ValueError: If the model's normalisation is not known.
    """

    def __init__(self, network: nn.Module, pixel_mean: Sequence[float] | None, pixel_std: Sequence[float] | None,
                 mean: Sequence[float], std: Sequence[float]) -> None:
        if pixel_mean is None or pixel_std is None:
            raise ValueError('a target by a frozen network has to know how the images are normalised: give the model '
                             "data_preprocessor=dict(type='mae_plugin.MAEDataPreprocessor', mean=..., std=...)")
        self.network = network.eval().requires_grad_(False)
        pixel_mean, pixel_std, mean, std = (
            torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (pixel_mean, pixel_std, mean, std))
        self.scale, self.shift = (pixel_std / 255 / std).float(), ((pixel_mean / 255 - mean) / std).float()

    @torch.no_grad()
    def __call__(self, imgs: Tensor, size: tuple[int, int], run: Callable[[nn.Module, Tensor], Tensor]) -> Tensor:
        """``run(network, images)`` of the model's ``imgs`` (B, C, H, W), as (B, C, *size) and normalised anew."""
        if self.scale.device != imgs.device:  # at the first batch
            self.network.to(imgs.device)
            self.scale, self.shift = self.scale.to(imgs.device), self.shift.to(imgs.device)
        return run(self.network, resize_map(imgs.float(), size) * self.scale + self.shift)


def resize_map(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, h, w) to (B, C, *size), each number a weighted mean of those it stands for."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return F.interpolate(maps, tuple(size), mode='bilinear', antialias=True)


def load_frozen(network: nn.Module, checkpoint: str) -> dict[str, str]:
    """Load all weights of ``network`` by :func:`~mae_plugin.weights.safe_load.load_file`; returns ``Target.files``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no checkpoint, or of another network.
    """
    try:
        network.load_state_dict(tensors_in(load_file(checkpoint), checkpoint)[0])
    except RuntimeError as error:
        reason = ' '.join(str(error).split())
        raise ValueError(f'{checkpoint} does not fit {type(network).__name__}: {reason[:300]}') from error
    return dict(checkpoint=file_sha256(Path(checkpoint).expanduser()))


@contextmanager
def own_seed() -> Iterator[None]:
    """Random weights inside are the same in every run, which a resumed run needs; those outside do not change."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(0)
    try:
        yield
    finally:
        torch.set_rng_state(state)


def warn_of_random_weights(part: str, remedy: str) -> None:
    """Say in the log that a frozen network knows nothing."""
    print_log(f'{part} has random weights, always the same ones: {remedy}', logger='current', level=logging.WARNING)
