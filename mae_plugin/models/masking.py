"""Which patches the encoder sees, and which are predicted."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..registry import MODELS


@dataclass(frozen=True)
class PatchMask:
    """A mask over the patches of a batch. B images, L patches, K kept, P predicted.

    Attributes:
        ids_shuffle: (B, L) all patches, the kept ones first, each part in score order.
        num_keep: K.
        grid: (h, w) of the patches, L = h * w.
    """

    ids_shuffle: Tensor
    num_keep: int
    grid: tuple[int, int]

    @classmethod
    def from_scores(cls, scores: Tensor, num_keep: int, grid: tuple[int, int]) -> 'PatchMask':
        """Keep the ``num_keep`` lowest of ``scores`` (B, L), in score order."""
        return cls(scores.argsort(dim=1, stable=True), num_keep, grid)

    @property
    def ids_keep(self) -> Tensor:
        """(B, K): the patches the encoder sees, in its order."""
        return self.ids_shuffle[:, :self.num_keep]

    @property
    def ids_pred(self) -> Tensor:
        """(B, P): the patches that are predicted and averaged; in MAE all that are hidden."""
        return self.ids_shuffle[:, self.num_keep:]

    @property
    def ids_restore(self) -> Tensor:
        """(B, L): the place of each patch in ``ids_shuffle``; gathering with it restores image order."""
        places = torch.arange(self.ids_shuffle.size(1), device=self.ids_shuffle.device)
        return torch.empty_like(self.ids_shuffle).scatter_(1, self.ids_shuffle, places.expand_as(self.ids_shuffle))

    @property
    def mask(self) -> Tensor:
        """(B, L), float: 1 where a patch is masked, 0 where it is visible, in image order."""
        return (self.ids_restore >= self.num_keep).float()


@MODELS.register_module()
class RandomMasking(nn.Module):
    """Hide a share of the patches at random, each image on its own (MAE, section 3).

    A strategy of your own overrides :meth:`scores`.

    Args:
        mask_ratio: Share of hidden patches, in (0, 1). ``int(L * (1 - mask_ratio))`` are kept, as the authors do.

    Raises:
        ValueError: If ``mask_ratio`` is not in (0, 1), or a grid leaves no patch to keep or none to hide.
    """

    def __init__(self, mask_ratio: float = 0.75) -> None:
        super().__init__()
        if not 0 < mask_ratio < 1:
            raise ValueError(f'mask_ratio is the share of hidden patches and lies between 0 and 1, '
                             f'both excluded; got {mask_ratio}')
        self.mask_ratio = mask_ratio

    def forward(self, imgs: Tensor, grid: tuple[int, int], data_samples: Sequence | None = None) -> PatchMask:
        """Draw a mask for ``imgs`` (B, C, H, W) with patches on ``grid`` (h, w)."""
        L = grid[0] * grid[1]
        num_keep = int(L * (1 - self.mask_ratio))
        if not 0 < num_keep < L:
            raise ValueError(f'mask_ratio={self.mask_ratio} on {L} patches ({grid[0]}x{grid[1]}) keeps {num_keep}: '
                             f'use larger images, smaller patches or another ratio')
        return PatchMask.from_scores(self.scores(imgs, grid, data_samples), num_keep, grid)

    def scores(self, imgs: Tensor, grid: tuple[int, int], data_samples: Sequence | None = None) -> Tensor:
        """(B, L): the lowest are kept.

        Samples that carry a ``sample_key`` (seed, epoch, index) get a hash of it and of the patch: the same bits on
        every device, whatever the batch, the worker or the process. The keys may also come alone, as an int64 tensor
        (B, 3) in place of ``data_samples``. Without keys, this is exactly one ``torch.rand(B, L)``, which draws the
        authors' mask for a seed.
        """
        B, L = imgs.size(0), grid[0] * grid[1]
        keys = sample_keys(data_samples)
        if keys is None:
            return torch.rand(B, L, device=imgs.device)
        return hash_noise(keys, L, imgs.device)


def sample_keys(data_samples: Sequence | Tensor | None) -> Tensor | None:
    """The ``sample_key`` of each sample, int64 (B, 3): seed, epoch and index; None if there are none.

    Raises:
        ValueError: If only some have one.
    """
    if data_samples is None or isinstance(data_samples, Tensor):
        return data_samples
    keys = [sample.sample_key for sample in data_samples if 'sample_key' in sample]
    if not keys:
        return None
    if len(keys) < len(data_samples):
        raise ValueError(f'{len(keys)} of {len(data_samples)} samples have a sample_key: give it to all or to none')
    return torch.tensor(keys, dtype=torch.int64)


def hash_noise(keys: Tensor, length: int, device: torch.device | str = 'cpu') -> Tensor:
    """Uniform int64 noise (B, length) that is a function of each (seed, epoch, index) and the column alone.

    SplitMix64 (Steele et al., 2014), first over the parts of the key, then over the columns. Integer arithmetic only,
    so CPU and GPU give the same bits.

    Args:
        keys: int64 (B, 3), on the CPU or on ``device``. The host does not wait for their way there.
        length: Number of columns.
        device: Where the noise is wanted.
    """
    state = torch.zeros_like(keys[:, 0])
    for part in keys.unbind(1):
        state = _mix(state + part + _GAMMA)
    if state.device.type == 'cpu' and torch.device(device).type == 'cuda':
        state = state.pin_memory()  # from other memory the copy would wait for all that the device still has to do
    state = state.to(device, non_blocking=True)
    return _mix(state[:, None] + torch.arange(1, length + 1, device=device) * _GAMMA)


# As int64 with the bits of SplitMix64's uint64, on which torch has no arithmetic.
_GAMMA, _MIX_1, _MIX_2 = (x - 2**64 for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift_right(z, 30)) * _MIX_1
    z = (z ^ _shift_right(z, 27)) * _MIX_2
    return z ^ _shift_right(z, 31)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift; torch's own keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
