"""Draw docs/images/targets.png: what of a photograph the targets keep."""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_image
from torch import Tensor

from mae_plugin.models import HOGTarget, PatchMask, PCATarget, PixelTarget, Target
from mae_plugin.models.layers import unpatchify

SIZE, PATCH, FINE = 224, 16, 4  # FINE: lines are drawn at that many times the size
MEAN, STD = (torch.tensor(values).view(3, 1, 1) for values in ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]))


def picture(imgs: Tensor) -> Image.Image:
    """Normalised (1, 3, H, W) as a picture."""
    return Image.fromarray((imgs[0] * STD + MEAN).clamp(0, 255).byte().permute(1, 2, 0).numpy())


def kept(target: Target, imgs: Tensor, mask: PatchMask) -> Image.Image:
    """What the numbers of the target say of the pixels."""
    return picture(unpatchify(target.inverse(target(imgs, mask), imgs, mask), target.patch_size, mask.grid))


def normalised(imgs: Tensor, mask: PatchMask) -> Image.Image:
    """The normalised target itself, 0 as grey."""
    return picture(unpatchify(PixelTarget(PATCH)(imgs, mask), (PATCH, PATCH), mask.grid) * .7)


def edges(target: HOGTarget, imgs: Tensor) -> Image.Image:
    """In each cell a line along the edges of each orientation, as bright as it has votes in the channels' mean."""
    votes = target.histograms(imgs)[0].unflatten(0, (3, target.bins)).mean(dim=0)
    image = np.zeros((SIZE * FINE, SIZE * FINE), np.uint8)
    (step, _), lines = target.cell, []
    for b in range(target.bins):
        angle = (b + .5) * math.pi / target.bins + math.pi / 2  # an edge lies across its gradient
        dx, dy = (step * FINE * .45 * f(angle) for f in (math.cos, math.sin))
        for i, row in enumerate(votes[b].tolist()):
            for j, vote in enumerate(row):
                x, y = (FINE * step * (k + .5) for k in (j, i))
                lines.append((vote, (x - dx, y - dy, x + dx, y + dy)))
    image = Image.fromarray(image)
    draw = ImageDraw.Draw(image)
    for vote, line in sorted(lines):
        draw.line(line, fill=round(255 * vote), width=FINE)
    return image.resize((SIZE, SIZE), Image.BOX).convert('RGB')


def main() -> None:
    """Draw."""
    photo = Image.fromarray(load_sample_image('china.jpg')).crop((150, 0, 577, 427)).resize((SIZE, SIZE), Image.BICUBIC)
    imgs = (torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() - MEAN) / STD
    L = (SIZE // PATCH)**2
    mask = PatchMask(torch.arange(L)[None], L, (SIZE // PATCH, SIZE // PATCH), num_pred=L)
    tiles = {
        'raw pixels: 768 numbers': photo,
        'normalised pixels: 768': normalised(imgs, mask),
        'cosines: the first 96': kept(PCATarget(PATCH, components=96), imgs, mask),
        'the first 16': kept(PCATarget(PATCH, components=16), imgs, mask),
        'HOG: 108': edges(HOGTarget(PATCH), imgs),
    }
    sheet = Image.new('RGB', (len(tiles) * (SIZE + 8) - 8, SIZE + 24), 'white')
    for i, (name, tile) in enumerate(tiles.items()):
        sheet.paste(tile, (i * (SIZE + 8), 0))
        ImageDraw.Draw(sheet).text((i * (SIZE + 8), SIZE + 4), name, fill='#333', font=ImageFont.load_default(15))
    file = Path(__file__).parents[1] / 'images/targets.png'
    sheet.quantize(64, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f'{file}: {file.stat().st_size / 1024:.0f} KB')


if __name__ == '__main__':
    main()
