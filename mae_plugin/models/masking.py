"""Which patches the encoder sees, and which are predicted."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from ..registry import MODELS

SAMPLE_TENSORS = ('sample_key', 'mask_map')  # of the samples, what parts of the model look at
# Samples of a batch; where a step is recorded, the tensors that their fields make; or nothing.
Samples = Sequence | Mapping[str, Tensor] | None


@dataclass(frozen=True)
class PatchMask:
    """What of the patches of a batch is seen and what is predicted. B images, L patches, K kept, P predicted.

    In MAE the P predicted patches are the L - K hidden ones. With partial prediction they are fewer; a denoising
    autoencoder sees and predicts all of them (K = P = L).

    Attributes:
        ids_shuffle: (B, L) all patches, the kept ones first, the predicted ones last.
        num_keep: K.
        grid: (h, w) of the patches, L = h * w.
        num_pred: P; None for L - K.
        valid: (B, C, H, W) bool, False where the image has no data, so that nothing is to be learned there; None where
            all of it counts.
    """

    ids_shuffle: Tensor
    num_keep: int
    grid: tuple[int, int]
    num_pred: int | None = None
    valid: Tensor | None = None

    @classmethod
    def from_scores(cls, scores: Tensor, num_keep: int, grid: tuple[int, int],
                    num_pred: int | None = None) -> 'PatchMask':
        """Keep the ``num_keep`` lowest of ``scores`` (B, L), in score order, and predict the ``num_pred`` highest."""
        return cls(scores.argsort(dim=1, stable=True), num_keep, grid, num_pred)

    @property
    def ids_keep(self) -> Tensor:
        """(B, K): the patches the encoder sees, in its order."""
        return self.ids_shuffle[:, :self.num_keep]

    @property
    def ids_pred(self) -> Tensor:
        """(B, P): the patches that are predicted and averaged, the last of ``ids_shuffle``."""
        L = self.ids_shuffle.size(1)
        return self.ids_shuffle[:, (self.num_keep if self.num_pred is None else L - self.num_pred):]

    @property
    def ids_restore(self) -> Tensor:
        """(B, L): the place of each patch in ``ids_shuffle``; gathering with it restores image order."""
        places = torch.arange(self.ids_shuffle.size(1), device=self.ids_shuffle.device)
        return torch.empty_like(self.ids_shuffle).scatter_(1, self.ids_shuffle, places.expand_as(self.ids_shuffle))

    @property
    def mask(self) -> Tensor:
        """(B, L), float: 1 where a patch is masked, 0 where it is visible, in image order."""
        return (self.ids_restore >= self.num_keep).float()


class Masking(nn.Module, ABC):
    """Hide a share of the patches, each image on its own; which ones, a strategy says by :meth:`scores`.

    Args:
        mask_ratio: Share of hidden patches, in (0, 1). ``int(L * (1 - mask_ratio))`` are kept, as the authors do.
        pred_ratio: Share of the patches that is predicted (partial prediction; CrossMAE, Fu et al., 2024, section 3.3):
            ``int(L * pred_ratio)``, at least one, those of the hidden ones with the highest scores. None predicts all
            that is hidden.

    Raises:
        ValueError: If ``mask_ratio`` is not in (0, 1), ``pred_ratio`` not in (0, mask_ratio], or a grid leaves no patch
            to keep or none to hide.
    """

    def __init__(self, mask_ratio: float = 0.75, pred_ratio: float | None = None) -> None:
        super().__init__()
        if not 0 < mask_ratio < 1:
            raise ValueError(f'mask_ratio is the share of hidden patches and lies between 0 and 1, '
                             f'both excluded; got {mask_ratio}')
        if pred_ratio is not None and not 0 < pred_ratio <= mask_ratio:
            raise ValueError(f'pred_ratio={pred_ratio} is the share of predicted patches, which are hidden ones: above '
                             f'0 and at most mask_ratio={mask_ratio}')
        self.mask_ratio, self.pred_ratio = mask_ratio, pred_ratio

    def forward(self, imgs: Tensor, grid: tuple[int, int], data_samples: Samples = None) -> PatchMask:
        """Draw a mask for ``imgs`` (B, C, H, W) with patches on ``grid`` (h, w)."""
        L, num_keep = grid[0] * grid[1], self.num_keep(grid)
        num_pred = None if self.pred_ratio is None else min(max(int(L * self.pred_ratio), 1), L - num_keep)
        scores = self.scores(imgs, grid, data_samples)
        if scores.shape != (imgs.size(0), L):
            raise ValueError(f'{type(self).__name__}.scores() gives {tuple(scores.shape)}: Masking wants a number for '
                             f'each of {L} patches ({grid[0]}x{grid[1]}) of {imgs.size(0)} images, '
                             f'{(imgs.size(0), L)}')
        return PatchMask.from_scores(scores, num_keep, grid, num_pred)

    def num_keep(self, grid: tuple[int, int]) -> int:
        """K of a ``grid`` (h, w) of patches."""
        L = grid[0] * grid[1]
        num_keep = int(L * (1 - self.mask_ratio))
        if not 0 < num_keep < L:
            raise ValueError(f'mask_ratio={self.mask_ratio} on {L} patches ({grid[0]}x{grid[1]}) keeps {num_keep}: '
                             f'use larger images, smaller patches or another ratio')
        return num_keep

    @abstractmethod
    def scores(self, imgs: Tensor, grid: tuple[int, int], data_samples: Samples = None) -> Tensor:
        """(B, L): the lowest are kept. To be written by a strategy, without waiting for the device."""

    @staticmethod
    def noise(imgs: Tensor, grid: tuple[int, int], data_samples: Samples = None) -> Tensor:
        """(B, L) independent random numbers, one for each patch.

        Samples that carry a ``sample_key`` (seed, epoch, index) get a hash of it and of the patch, int64: the same bits
        on every device, whatever the batch, the worker or the process. Without keys, this is exactly one
        ``torch.rand(B, L)``, which draws the authors' mask for a seed.
        """
        B, L = imgs.size(0), grid[0] * grid[1]
        keys = sample_keys(data_samples)
        if keys is None:
            return torch.rand(B, L, device=imgs.device)
        return hash_noise(keys, L, imgs.device)


@MODELS.register_module()
class RandomMasking(Masking):
    """Hide patches at random (MAE, section 3); the arguments are those of :class:`Masking`."""

    def scores(self, imgs: Tensor, grid: tuple[int, int], data_samples: Samples = None) -> Tensor:
        """See :meth:`Masking.noise`."""
        return self.noise(imgs, grid, data_samples)


@MODELS.register_module()
class NoMasking(nn.Module):
    """Show and predict every patch: for denoising autoencoders (Vincent et al., 2008), whose task is a corruption."""

    def forward(self, imgs: Tensor, grid: tuple[int, int], data_samples: Samples = None) -> PatchMask:
        """K = P = L, in image order."""
        L = grid[0] * grid[1]
        return PatchMask(torch.arange(L, device=imgs.device).expand(imgs.size(0), L), L, grid, num_pred=L)


def sample_keys(data_samples: Samples) -> Tensor | None:
    """The ``sample_key`` of each sample, int64 (B, 3): seed, epoch and index; None if there are none.

    Raises:
        ValueError: If only some have one.
    """
    return sample_tensors(data_samples, ('sample_key', )).get('sample_key')


def sample_tensors(data_samples: Samples, names: Sequence[str] = SAMPLE_TENSORS) -> dict[str, Tensor]:
    """Those of ``names`` that the samples carry, each as one tensor (B, ...): keys int64 (B, 3), maps (B, H, W).

    A mapping of such tensors, which stands for samples where a step is recorded, is returned as it is.

    Raises:
        ValueError: If only some samples have one.
    """
    if not data_samples or isinstance(data_samples, Mapping):
        return dict(data_samples or {})
    found = {}
    for name in names:
        values = [sample.get(name) for sample in data_samples if name in sample]
        if values and len(values) < len(data_samples):
            raise ValueError(f'{len(values)} of {len(data_samples)} samples have a {name}: give it to all or to none')
        if values:
            found[name] = torch.stack(values) if isinstance(values[0], Tensor) else torch.from_numpy(np.array(values))
    return found


def uniform_noise(keys: Tensor | None, shape: tuple[int, int], purpose: str,
                  device: torch.device | str = 'cpu') -> Tensor:
    """Uniform float32 in [0, 1), a multiple of 2^-24: ``shape`` (B, n) numbers of :func:`hash_noise`.

    Args:
        keys: As for :func:`hash_noise`, or None for torch's generator.
        shape: (B, n).
        purpose: What is drawn, such as ``'block'``; another purpose draws independent numbers.
        device: Where the noise is wanted.
    """
    if keys is None:
        return torch.rand(shape, device=device)
    # Above the 32 bits of a seed; a row's state begins with the sum of both.
    bits = hash_noise(keys, shape[1], device, stream=crc32(purpose.encode()) << 31)
    return _shift_right(bits, 40).float() * 2**-24


def hash_noise(keys: Tensor, length: int, device: torch.device | str = 'cpu', stream: int = 0) -> Tensor:
    """Uniform int64 noise (B, length) that is a function of each (seed, epoch, index) and the column alone.

    SplitMix64 (Steele et al., 2014), first over the parts of the key, then over the columns. Integer arithmetic only,
    so CPU and GPU give the same bits.

    Args:
        keys: int64 (B, 3), on the CPU or on ``device``. The host does not wait for their way there.
        length: Number of columns.
        device: Where the noise is wanted.
        stream: Another one gives independent noise.
    """
    state = torch.full_like(keys[:, 0], stream)
    for part in keys.unbind(1):
        state = _mix(state + part + _GAMMA)
    state = to_device(state, device)
    return _mix(state[:, None] + torch.arange(1, length + 1, device=device) * _GAMMA)


def to_device(x: Tensor, device: torch.device | str) -> Tensor:
    """``x`` on ``device``, without the host waiting for it."""
    if x.device.type == 'cpu' and torch.device(device).type == 'cuda':
        x = x.pin_memory()  # from other memory the copy would wait for all that the device still has to do
    return x.to(device, non_blocking=True)


# As int64 with the bits of SplitMix64's uint64, on which torch has no arithmetic.
_GAMMA, _MIX_1, _MIX_2 = (x - 2**64 for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift_right(z, 30)) * _MIX_1
    z = (z ^ _shift_right(z, 27)) * _MIX_2
    return z ^ _shift_right(z, 31)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift; torch's own keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
