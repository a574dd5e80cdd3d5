"""Generated data in the shape of the public sets, where the configs look for it."""

import numpy as np
from PIL import Image


def make_ade(top, images=4, seed=0):
    """ADE20K's folders below ``top/data``: noise of 96x64 pixels, the left half one class, the right half another.

    The values 0 (no class), 1 and 150 occur: the first class and the last.
    """
    random = np.random.default_rng(seed)
    root = top / 'data/ade/ADEChallengeData2016'
    for split in ('training', 'validation'):
        for kind in ('images', 'annotations'):
            (root / kind / split).mkdir(parents=True)
        for number in range(images):
            pixels = random.integers(0, 100, (64, 96, 3), np.uint8)
            pixels[:, :48, 0] += 150
            pixels[:, 48:, 2] += 150
            labels = np.zeros((64, 96), np.uint8)
            labels[:60, :48], labels[:60, 48:] = 1, 150
            Image.fromarray(pixels).save(root / 'images' / split / f'ADE_{number}.jpg', quality=95, subsampling=0)
            Image.fromarray(labels).save(root / 'annotations' / split / f'ADE_{number}.png')
    return root
