"""Pictures as cameras take them: smooth areas, edges and noise, in every kind of file."""

from io import BytesIO

import numpy as np
from PIL import Image


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """An RGB picture with areas of colour, sharp edges and a little noise."""
    random = np.random.default_rng(seed)
    areas = Image.fromarray(random.integers(256, size=(max(height // 24, 1), max(width // 24, 1), 3), dtype=np.uint8))
    pixels = np.asarray(areas.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    pixels[height // 3:height // 2, width // 4:width // 2] = random.integers(256, size=3)
    return Image.fromarray((pixels + random.integers(-8, 9, pixels.shape)).clip(0, 255).astype(np.uint8))


def jpeg(picture: Image.Image, mode: str = 'RGB', exif_orientation: int | None = None, quality: int = 90,
         **options) -> bytes:
    """The file of a picture."""
    file = BytesIO()
    if exif_orientation:
        options['exif'] = Image.Exif()
        options['exif'][0x0112] = exif_orientation
    picture.convert(mode).save(file, 'JPEG', quality=quality, **options)
    return file.getvalue()
