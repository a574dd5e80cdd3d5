"""Principal components of patches as target."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..registry import MODELS
from ..utils.hashing import file_sha256
from .layers import at_least_float32, patchify
from .masking import PatchMask
from .targets import Target

DCT = 'dct'
_CORRELATION = 0.95  # of neighbouring pixels of photographs


@MODELS.register_module()
class PCATarget(Target):
    """Coefficients of the first principal components of patches (MAE, Table 1d: "PCA in the patch space").

    Coefficients are not scaled: as components are orthonormal, the squared error over all of them is the squared error
    of the pixels they make.

    Args:
        patch_size: Patch size in pixels; the algorithm passes the backbone's.
        in_chans: Channels of the image; the algorithm passes the backbone's.
        components: How many coefficients to predict, D.
        basis: File of ``tools/fit_pca.py``, made of the images to train on, as in the paper. Or ``'dct'``, which needs
            none: the cosines that are the principal components of images in which correlation falls with distance
            (Ahmed et al., 1974), see :func:`dct_basis`. The basis is no part of checkpoints.
        pixel_mean: By which images are normalised; the algorithm passes the data preprocessor's.
        pixel_std: Likewise.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is none of ``tools/fit_pca.py``, of other patches, channels or normalisation, or has fewer
            components.
    """

    invertible = True

    def __init__(self, patch_size: int | Sequence[int], in_chans: int = 3, components: int = 96, basis: str = DCT,
                 pixel_mean: Sequence[float] | None = None, pixel_std: Sequence[float] | None = None) -> None:
        super().__init__(patch_size, in_chans)
        size = self.patch_size[0] * self.patch_size[1] * in_chans
        if not 0 < components <= size:
            raise ValueError(f'head.target.components={components} is not in 1 to {size}, the numbers of a patch of '
                             f'{self.patch_size[0]}x{self.patch_size[1]} pixels and {in_chans} channels')
        if basis == DCT:
            mean, vectors = torch.zeros(size), dct_basis(self.patch_size, in_chans)
        else:
            given = dict(patch_size=self.patch_size, in_chans=in_chans, pixel_mean=pixel_mean, pixel_std=pixel_std)
            mean, vectors = load_basis(basis, {name: value for name, value in given.items() if value is not None})
            self.files = dict(basis=file_sha256(Path(basis).expanduser()))
        self.dim = components
        self.register_buffer('mean', mean, persistent=False)
        self.register_buffer('basis', vectors[:, :components].contiguous(), persistent=False)

    def forward(self, imgs: Tensor, mask: PatchMask) -> Tensor:
        """See :meth:`Target.forward`."""
        patches = self.patches(imgs, mask)
        with torch.autocast(imgs.device.type, enabled=False):
            return (patches - self.mean.to(patches.dtype)) @ self.basis.to(patches.dtype)

    def inverse(self, pred: Tensor, imgs: Tensor, mask: PatchMask) -> Tensor:
        """See :meth:`Target.inverse`: what the components make of the coefficients; the others are zero."""
        pred = at_least_float32(pred)
        return pred @ self.basis.to(pred.dtype).T + self.mean.to(pred.dtype)


def dct_basis(patch_size: tuple[int, int], in_chans: int) -> Tensor:
    """Products of the cosines (DCT-II) of rows, columns and channels: orthonormal, float32 (D, D).

    In columns, those first that vary most in images whose neighbouring rows, columns and channels have a correlation
    of 0.95. Of the channels, the first cosine is their mean. D runs over (row, column, channel).
    """
    basis, variances = torch.ones(1, 1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    for n in (*patch_size, in_chans):
        i = torch.arange(n, dtype=torch.float64)
        cosines = torch.cos(torch.pi / n * (i[:, None] + .5) * i) * (2 / n)**.5
        cosines[:, 0] /= 2**.5
        covariance = _CORRELATION**(i[:, None] - i).abs()
        basis = torch.kron(basis, cosines)
        variances = torch.kron(variances, (cosines * (covariance @ cosines)).sum(dim=0))
    return basis[:, variances.argsort(descending=True, stable=True)].float()


def fit_pca(batches: Iterable[Tensor], patch_size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Principal components of the patches of normalised images, summed up in float64.

    Args:
        batches: Images (B, C, H, W); patches with NaN, which have pixels without data, are left out.
        patch_size: (height, width) in pixels.

    Returns:
        ``mean`` (D,), ``basis`` (D, D), the components as columns, and their variances, ``eigenvalues`` (D,), from the
        largest to the smallest; the largest number of each component is positive.

    Raises:
        ValueError: If there are fewer than two patches.
    """
    count, total, squares = 0, 0, 0
    for imgs in batches:
        patches = patchify(imgs.double(), patch_size).flatten(0, 1)
        patches = patches[~patches.isnan().any(dim=1)]
        count, total, squares = count + len(patches), total + patches.sum(dim=0), squares + patches.T @ patches
    if count < 2:
        raise ValueError(f'PCA needs at least two patches without NaN; there are {count}')
    mean = total / count
    eigenvalues, basis = torch.linalg.eigh((squares - count * mean[:, None] * mean) / (count - 1))
    eigenvalues, basis = eigenvalues.flip(0).clamp(min=0), basis.flip(1)
    basis = basis * basis.gather(0, basis.abs().argmax(dim=0, keepdim=True)).sign()
    return {name: value.cpu().numpy() for name, value in dict(mean=mean, basis=basis, eigenvalues=eigenvalues).items()}


def load_basis(file: str | os.PathLike, expected: dict) -> tuple[Tensor, Tensor]:
    """Mean (D,) and components (D, D), float32, of a file of ``tools/fit_pca.py``.

    Args:
        file: Its path.
        expected: What the file has to say of patches and images.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is another file, or says otherwise.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"head.target.basis='{file}' does not exist: 'python tools/fit_pca.py CONFIG --out "
                                f"{file}' makes it; basis='{DCT}' needs no file")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            stored = {name: arrays[name] for name in ('mean', 'basis', *expected)}
    except Exception as error:  # a damaged archive raises many kinds
        raise ValueError(f"head.target.basis='{file}' is not a whole file of tools/fit_pca.py, which makes it anew "
                         f'({type(error).__name__}: {error})') from error
    for name, value in expected.items():
        if stored[name].shape != np.shape(value) or not np.allclose(stored[name], value, atol=0.01):
            raise ValueError(f"head.target.basis='{file}' is of images with {name}={stored[name].tolist()}, the model "
                             f"has {value}: make one by 'python tools/fit_pca.py CONFIG --out FILE'")
    mean, basis = (torch.from_numpy(stored[name]).float() for name in ('mean', 'basis'))
    size = len(mean)
    if basis.shape != (size, size) or not (mean.isfinite().all() and basis.isfinite().all()):
        raise ValueError(f"head.target.basis='{file}' is damaged: tools/fit_pca.py makes it anew")
    return mean, basis
