"""Draw docs/images/masks.png and docs/images/corruptions.png: all masks and corruptions on one photograph.

    python docs/pictures/masks.py

The photograph is scikit-learn's ``china.jpg``, by danielbuechele, CC BY 2.0.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.structures import BaseDataElement
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor

from mae_plugin import models

ROOT = Path(__file__).parents[2]
SIZE, PATCH = 224, 16
PREPROCESSOR = models.MAEDataPreprocessor([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
SAMPLE = BaseDataElement(metainfo=dict(sample_key=(0, 0, 3)))


class DarkMasking(models.MapMasking):
    """Hide the darkest patches."""

    def map(self, imgs: Tensor, data_samples=None) -> Tensor:
        """See :meth:`MapMasking.map`."""
        return -imgs.mean(1)


def photograph() -> Tensor:
    """The middle of the photograph, normalised: (1, 3, H, W)."""
    pixels = load_sample_image('china.jpg')  # (427, 640, 3)
    image = Image.fromarray(pixels[:, 140:567]).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return PREPROCESSOR(dict(inputs=[torch.from_numpy(np.array(image)).permute(2, 0, 1)]))['inputs']


def masked(imgs: Tensor) -> dict[str, Tensor]:
    """``imgs`` (1, 3, H, W), grey where each mask hides them."""
    masks = {
        'random, 0.75': models.RandomMasking(.75),
        'grid, 0.75': models.GridMasking(.75),
        'grid, 0.5': models.GridMasking(.5),
        'block, 0.5': models.BlockMasking(.5),
        'block, 0.75': models.BlockMasking(.75),
        'region, 0.75': models.RegionMasking(mask_ratio=.75),
        'map of darkness, 0.5': DarkMasking(mask_ratio=.5),
        'file': models.FileMasking(ROOT / 'configs' / 'parts' / 'mask_file.png')}
    found = {}
    for name, masking in masks.items():
        side = masking.hidden.size(0) if name == 'file' else SIZE // PATCH
        hidden = masking(imgs, (side, side), [SAMPLE]).mask.view(1, 1, side, side)
        found[name] = imgs.masked_fill(torch.nn.functional.interpolate(hidden, SIZE).bool(), 0)
    return found


def save(name: str, pictures: dict[str, Tensor]) -> None:
    """Write ``pictures`` (1, 3, H, W), four in a row, in 64 colours."""
    rows = -(-len(pictures) // 4)
    figure = Figure(figsize=(8, 2.4 * rows), dpi=100)
    for axis, (title, imgs) in zip(figure.subplots(rows, 4).flat, pictures.items(), strict=True):
        axis.imshow(PREPROCESSOR.to_pixels(imgs)[0].clamp(0, 255).round().byte().permute(1, 2, 0).numpy())
        axis.set_title(title, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.tight_layout(pad=.8)
    file = BytesIO()
    figure.savefig(file)
    Image.open(file).convert('RGB').quantize(64).save(ROOT / 'docs' / 'images' / f'{name}.png', optimize=True)


if __name__ == '__main__':
    imgs = photograph()
    save('masks', masked(imgs))
    corruptions = {'Gaussian, std 0.5': models.GaussianNoise(.5), 'masking noise, 0.25': models.MaskingNoise(.25),
                   'salt and pepper, 0.25': models.SaltAndPepper(.25)}
    save('corruptions', dict(clean=imgs) | {name: each(imgs, [SAMPLE]) for name, each in corruptions.items()})
