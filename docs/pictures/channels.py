"""Write docs/images/channels.png: what the model gets of an image of 13 channels with a margin that has no data.

python docs/pictures/channels.py
"""

import sys
import tempfile
from pathlib import Path

import matplotlib
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # also works without installation
matplotlib.use('Agg')

from matplotlib import pyplot as plt  # noqa: E402

from mae_plugin.datasets import SampleKey, UnlabelledImages  # noqa: E402
from mae_plugin.datasets.spectral_scenes import WAVELENGTHS, ensure_spectral_scenes  # noqa: E402
from mae_plugin.models.masking import RandomMasking  # noqa: E402

SIZE, PATCH = (64, 96), (8, 16)
NO_DATA = (.85, .35, .25)
CROP = [dict(type='mae_plugin.KeyedRandomResizedCrop', size=SIZE, scale=(.9, 1.)),
        dict(type='mae_plugin.PackUnlabelled')]


def painted(values: np.ndarray, hidden: np.ndarray | None = None) -> np.ndarray:
    """``values``, (H, W) or (H, W, 3), from their 1st to their 99th percentile; no data red, hidden patches grey."""
    low, high = np.nanpercentile(values, (1, 99))
    picture = np.nan_to_num((values - low) / (high - low)).clip(0, 1)
    picture = picture if picture.ndim == 3 else picture[..., None].repeat(3, axis=2)
    missing = np.isnan(values) if values.ndim == 2 else np.isnan(values).all(axis=2)
    picture[missing] = NO_DATA
    if hidden is not None:
        picture[hidden] = .5
    return picture


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        ensure_spectral_scenes(Path(folder) / 'scenes', train=10, val=10)
        images = UnlabelledImages(Path(folder) / 'scenes' / 'train', CROP, mode='array', channels=13,
                                  arrays=dict(nodata=0))
        sample = images[SampleKey(0, 0, 3)]
    grid = tuple(side // patch for side, patch in zip(SIZE, PATCH, strict=True))
    mask = RandomMasking(.75)(sample['inputs'][None], grid, [sample['data_samples']]).mask
    hidden = np.kron(mask.reshape(grid).numpy(), np.ones(PATCH)).astype(bool)
    values = sample['inputs'].permute(1, 2, 0).numpy()
    panels = {'bands 3, 2, 1: red, green, blue': painted(values[..., [3, 2, 1]])}
    panels |= {f'band {band}: {WAVELENGTHS[band]} nm': painted(values[..., band]) for band in (1, 3, 7, 12)}
    panels['what the encoder sees, band 7'] = painted(values[..., 7], hidden)
    figure, axes = plt.subplots(2, 3, figsize=(9, 4.6), dpi=100)
    for axis, (title, picture) in zip(axes.flat, panels.items(), strict=True):
        axis.imshow(picture, interpolation='nearest')
        axis.set_title(title, fontsize=9)
        axis.axis('off')
    figure.tight_layout()
    figure.savefig(ROOT / 'docs' / 'images' / 'channels.png', metadata=dict(Software=None))


if __name__ == '__main__':
    main()
