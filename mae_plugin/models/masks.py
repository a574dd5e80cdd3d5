"""Which patches are hidden: regularly spread, in blocks, by regions of the image, by a map, or by a file."""

from collections.abc import Sequence
from math import log
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from timm.layers import to_2tuple
from torch import Tensor

from ..registry import MODELS
from .masking import Masking, Samples, sample_keys, sample_tensors, to_device, uniform_noise

# BEiT (Bao et al., 2022), Algorithm 1, on 14 x 14 patches.
_BLOCK_AREA = (16 / 196, 75 / 196)
_BLOCK_ASPECT = 1 / .3
# They cover 98 % of a grid on average, and less than 90 % of it in fewer than 2 of 1000 images.
_BLOCKS = 48
_ITERATIONS = 5
_IMAGE_FILES = ('.png', '.bmp', '.pgm')


@MODELS.register_module()
class GridMasking(Masking):
    """Keep patches that are spread regularly (MAE, Fig. 6, right): at 0.75 one of each 2 x 2, at 0.5 a checkerboard.

    Every ratio gives an even pattern: patches are kept in the order of Bayer's matrix (ordered dithering, Bayer, 1973).
    It is the same for all images. The arguments are those of :class:`Masking`.
    """

    def scores(self, imgs: Tensor, grid: tuple[int, int], data_samples: Samples = None) -> Tensor:
        """See :meth:`Masking.scores`."""
        h, w = grid
        row, col = torch.arange(h, device=imgs.device)[:, None], torch.arange(w, device=imgs.device)
        order = torch.zeros(h, w, dtype=torch.long, device=imgs.device)
        for bit in range((max(grid) - 1).bit_length()):  # the lowest bits of a place have the most weight
            order = 4 * order + 2 * ((row ^ col) >> bit & 1) + (row >> bit & 1)
        return order.flatten().expand(imgs.size(0), -1)


@MODELS.register_module()
class BlockMasking(Masking):
    """Hide random rectangles of patches (MAE, Fig. 6, centre; BEiT, Bao et al., 2022, Algorithm 1).

    As in BEiT a rectangle has 16 to 75 of 14 x 14 patches, on other grids the same share, and an aspect of 0.3 to 1 /
    0.3. Rectangles are hidden one after the other; of the last, so many rows or columns as the ratio asks for. The
    arguments are those of :class:`Masking`.
    """

    def scores(self, imgs: Tensor, grid: tuple[int, int], data_samples: Samples = None) -> Tensor:
        """See :meth:`Masking.scores`."""
        (h, w), B = grid, imgs.size(0)
        noise = uniform_noise(sample_keys(data_samples), (B, 1 + 4 * _BLOCKS), 'block', imgs.device)
        # In float64, so that CPU and GPU round to the same rectangles. Each of shape (B, blocks, 1, 1).
        size, shape, top, left = noise[:, 1:].double().view(B, 4, _BLOCKS, 1, 1).unbind(1)
        area = h * w * (_BLOCK_AREA[0] + (_BLOCK_AREA[1] - _BLOCK_AREA[0]) * size)
        aspect = ((2 * shape - 1) * log(_BLOCK_ASPECT)).exp()
        height, width = (area * aspect).sqrt().round().clamp(1, h), (area / aspect).sqrt().round().clamp(1, w)
        top, left = (top * (h - height + 1)).floor(), (left * (w - width + 1)).floor()
        row, col = torch.arange(h, device=imgs.device)[:, None], torch.arange(w, device=imgs.device)
        covered = (row >= top) & (row < top + height) & (col >= left) & (col < left + width)  # (B, blocks, h, w)
        earliest = (covered * torch.arange(_BLOCKS, 0, -1, device=imgs.device).view(-1, 1, 1)).amax(1)
        return earliest.flatten(1) * (h * w) + _sweep(grid, noise[:, 0])


@MODELS.register_module()
class RegionMasking(Masking):
    """Hide whole regions of similar colour, one after the other in random order, of the last one only a part.

    Regions as units of what is hidden are the idea of R-MAE (Nguyen et al., 2023). Here they are superpixels of
    patches: a few iterations of k-means on mean colour and place (SLIC, Achanta et al., 2012), on the device. A
    subclass may find others in :meth:`regions`. Means are rounded otherwise on another device, so that a mask may
    differ there.

    Args:
        num_regions: Regions down and across (an int means a square); some may end up empty.
        compactness: Weight of the place, in distances between the centres of regions, against the colour, in the units
            of the normalised image. 0 leaves the place out.
        mask_ratio: As for :class:`Masking`.
        pred_ratio: As for :class:`Masking`.

    Raises:
        ValueError: If ``compactness`` is negative, or the grid has fewer rows or columns than there are to be regions.
    """

    def __init__(self, num_regions: int | Sequence[int] = 4, compactness: float = .5, mask_ratio: float = .75,
                 pred_ratio: float | None = None) -> None:
        super().__init__(mask_ratio, pred_ratio)
        if compactness < 0:
            raise ValueError(f'compactness={compactness} is a weight and cannot be negative')
        self.num_regions, self.compactness = tuple(to_2tuple(num_regions)), compactness

    def scores(self, imgs: Tensor, grid: tuple[int, int], data_samples: Samples = None) -> Tensor:
        """See :meth:`Masking.scores`."""
        regions, L = self.regions(imgs, grid), grid[0] * grid[1]
        # No more regions than patches: region r has the r-th of L random places in the order.
        noise = uniform_noise(sample_keys(data_samples), (imgs.size(0), 1 + L), 'region', imgs.device)
        rank = noise[:, 1:].argsort(dim=1, stable=True).gather(1, regions)
        return rank * L + _sweep(grid, noise[:, 0])

    def regions(self, imgs: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, L) int64: the number of the region, below L, of each patch of ``imgs`` (B, C, H, W)."""
        (h, w), (m, n), B = grid, self.num_regions, imgs.size(0)
        if not (0 < m <= h and 0 < n <= w):
            raise ValueError(f'num_regions={self.num_regions} on {h}x{w} patches: use at least 1, and at most as many '
                             'regions as patches in each direction')
        rows, cols, down, across = (torch.arange(i, device=imgs.device) for i in (h, w, m, n))
        place = torch.stack(torch.meshgrid(rows * (m / h), cols * (n / w), indexing='ij'), dim=-1).view(1, h * w, 2)
        colour = F.adaptive_avg_pool2d(imgs.float(), grid).flatten(2).transpose(1, 2)
        features = torch.cat([colour, self.compactness * place.expand(B, -1, -1)], dim=-1)[:, :, None]  # (B, L, 1, D)
        seeds = (2 * down[:, None] + 1) * h // (2 * m) * w + (2 * across + 1) * w // (2 * n)
        centres = features[:, seeds.flatten()].transpose(1, 2)  # (B, 1, S, D)
        for _ in range(_ITERATIONS):
            nearest = (features - centres).square().sum(-1).argmin(-1)
            belongs = (nearest[..., None] == torch.arange(m * n, device=imgs.device))[..., None]  # (B, L, S, 1)
            count = belongs.sum(1, keepdim=True)
            # Products, not a scatter, whose sums differ from time to time on a GPU.
            centres = torch.where(count > 0, (belongs * features).sum(1, keepdim=True) / count.clamp(min=1), centres)
        return nearest


@MODELS.register_module()
class MapMasking(Masking):
    """Hide where a map is high: the patches with the highest means first.

    The map comes with each sample, by ``dict(type='mae_plugin.LoadMaskMap', ...)`` in front of the crop in the
    pipelines; or a subclass computes it in :meth:`map`.

    Args:
        noise: What is added to the means: this times uniform noise. White is 1 and black 0 in a map of a file. The
            default, less than a level of grey, decides between equal patches.
        mask_ratio: As for :class:`Masking`.
        pred_ratio: As for :class:`Masking`.

    Raises:
        ValueError: If ``noise`` is negative, or there is no map of the right shape.
    """

    def __init__(self, noise: float = 1e-3, mask_ratio: float = .75, pred_ratio: float | None = None) -> None:
        super().__init__(mask_ratio, pred_ratio)
        if noise < 0:
            raise ValueError(f'noise={noise} is an amplitude and cannot be negative')
        self.noise_amplitude = noise

    def map(self, imgs: Tensor, data_samples: Samples = None) -> Tensor:
        """The map of each image (B, C, H, W), of any size, (B, h', w') float; here that of the samples, in [0, 1]."""
        maps = sample_tensors(data_samples, ('mask_map', )).get('mask_map')
        if maps is None:
            raise ValueError("MapMasking finds no mask_map in the samples: put dict(type='mae_plugin.LoadMaskMap', "
                             'folder=...) in front of the crop in the pipelines of train_dataloader and '
                             'val_dataloader, or take a masking that derives from it and has a map(), or, in '
                             'tools/reconstruct.py, which reads no maps, another one by --masking')
        return to_device(maps, imgs.device).float() / 255

    def scores(self, imgs: Tensor, grid: tuple[int, int], data_samples: Samples = None) -> Tensor:
        """See :meth:`Masking.scores`."""
        maps = self.map(imgs, data_samples)
        if maps.dim() != 3 or len(maps) != len(imgs):
            raise ValueError(f'{type(self).__name__}.map() gives {tuple(maps.shape)} for {len(imgs)} images: it has to '
                             f'be ({len(imgs)}, height, width)')
        means = F.adaptive_avg_pool2d(maps[:, None].float(), grid).flatten(1)
        noise = uniform_noise(sample_keys(data_samples), tuple(means.shape), 'map', imgs.device)
        return means + self.noise_amplitude * noise


@MODELS.register_module()
class FileMasking(Masking):
    """Hide the same patches of all images: those that a file says.

    Args:
        file: ``.npy`` or an image (``.png``, ``.bmp``, ``.pgm``) of one channel with as many rows and columns as there
            are patches; nonzero is hidden. It gives ``mask_ratio``, too.
        pred_ratio: As for :class:`Masking`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no mask, leaves no patch visible or none hidden, or is of another size than the grid.
    """

    def __init__(self, file: str, pred_ratio: float | None = None) -> None:
        hidden = _read_mask(file)
        super().__init__(hidden.double().mean().item(), pred_ratio)
        self.file = str(file)
        self.register_buffer('hidden', hidden, persistent=False)
        self.num_visible = int((~hidden).sum())

    def num_keep(self, grid: tuple[int, int]) -> int:
        """The number of visible patches of the file, which has to have the size of ``grid``."""
        if tuple(self.hidden.shape) != tuple(grid):
            h, w = self.hidden.shape
            raise ValueError(f'model.masking.file={self.file!r} is a mask of {h}x{w} patches, the images have '
                             f'{grid[0]}x{grid[1]}: make it of that size, or change backbone.img_size or patch_size')
        return self.num_visible

    def scores(self, imgs: Tensor, grid: tuple[int, int], data_samples: Samples = None) -> Tensor:
        """See :meth:`Masking.scores`."""
        return self.hidden.flatten().long().expand(imgs.size(0), -1)


def _sweep(grid: tuple[int, int], noise: Tensor) -> Tensor:
    """(B, L): the number of each patch, row by row or column by column, forwards or backwards, by ``noise`` (B,).

    What is hidden in this order stays one block.
    """
    h, w = grid
    by_row = torch.arange(h * w, device=noise.device)
    by_col = by_row.view(w, h).t().flatten()
    orders = torch.stack([by_row, by_row.flip(0), by_col, by_col.flip(0)])
    return orders[(4 * noise).long()]


def _read_mask(file: str) -> Tensor:
    """(h, w) bool, True where ``file`` is nonzero."""
    path = Path(file)
    name = f'model.masking.file={str(file)!r}'
    if path.suffix.lower() not in ('.npy', *_IMAGE_FILES):
        raise ValueError(f'{name} is none of {", ".join(("*.npy", *(f"*{suffix}" for suffix in _IMAGE_FILES)))}')
    if not path.is_file():
        raise FileNotFoundError(f'{name} does not exist: give a file with a row for each row of patches')
    try:
        values = np.load(path, allow_pickle=False) if path.suffix.lower() == '.npy' else np.asarray(Image.open(path))
    except Exception as error:  # decoders raise many types
        raise ValueError(f'{name} cannot be read: {error}') from error
    if values.ndim != 2 or values.dtype.kind not in 'biuf':
        raise ValueError(f'{name} has {values.dtype} of shape {values.shape}: a mask has one number for each patch, '
                         '(rows, columns)')
    hidden = torch.from_numpy(values != 0)
    if not 0 < hidden.sum() < hidden.numel():
        raise ValueError(f'{name} hides {int(hidden.sum())} of {hidden.numel()} patches: leave one to see and hide one')
    return hidden
