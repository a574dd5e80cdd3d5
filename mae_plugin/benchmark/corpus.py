"""An ImageNet-like set of JPEG files, made from photographs inside installed packages: nothing is downloaded.

What a JPEG costs to decode depends on its pixels, its bits and its chroma. Most files of ImageNet are baseline, 4:4:4,
of quality 96, 500x375 pixels and 110 KB; so are these, on average. Their pictures are parts of a few photographs,
warped, with as much noise, or blur, as the number of bits wants that is drawn for each.
"""

import os
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from PIL.JpegImagePlugin import get_sampling

from mae_plugin.datasets.making import ensure_folder

_VERSION = 1  # raise it when the same settings give other files
_QUALITY = 96
_BITS_PER_PIXEL = (2.7, 6.7)  # even; 110 KB for 500x375 pixels are 4.7
_TRIES = 5  # of a strength of the noise: the size comes out some percent beside
# Colour photographs in the wheel of scikit-image; its others are drawings, grey, or downloaded.
_OF_SKIMAGE = ('astronaut.png', 'chelsea.png', 'coffee.png', 'motorcycle_left.png', 'rocket.jpg')


def ensure_corpus(root: str | Path, images: int = 2000, seed: int = 0) -> Path:
    """Return the folder of the corpus, made first, by all cores, when it is not there.

    Args:
        root: The folder.
        images: How many. More leave the first ones as they are.
        seed: Of all that is drawn.

    Raises:
        ValueError: ``images`` is not positive, or ``root`` was made with other settings or from other photographs.
        ModuleNotFoundError: scikit-learn is not installed.
    """
    if images < 1:
        raise ValueError(f'--images {images}: at least 1 is needed')
    settings = dict(maker='corpus', version=_VERSION, images=images, seed=seed, photographs=list(photographs()))

    def make(folder: Path) -> None:
        start = time.monotonic()
        print(f'corpus: making {images} files in {root} ...', flush=True)
        with ProcessPoolExecutor(usable_cores()) as pool:
            for number, data in enumerate(pool.map(partial(corpus_file, seed), range(images), chunksize=16)):
                path = folder / f'{number // 1000:03d}' / f'{number:06d}.jpg'
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(data)
        print(f'corpus: made in {time.monotonic() - start:.0f} s', flush=True)

    return ensure_folder(root, settings, make)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


@cache
def photographs() -> dict[str, Image.Image]:
    """The photographs by name: scikit-learn's two, and scikit-image's where it is installed.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_sample_images
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'the corpus is made from photographs of scikit-learn: pip install scikit-learn, or give --data') from None
    bunch = load_sample_images()
    found = {Path(name).name: Image.fromarray(photo)
             for name, photo in zip(bunch.filenames, bunch.images, strict=True)}
    spec = find_spec('skimage')
    for name in _OF_SKIMAGE if spec else ():
        file = Path(spec.origin).parent / 'data' / name
        if file.is_file():
            found[name] = Image.open(file).convert('RGB')
    return found


def corpus_file(seed: int, number: int) -> bytes:
    """The file of a number: a function of ``seed``, the number and the photographs."""
    random = np.random.default_rng([seed, number])
    photo = list(photographs().values())[random.integers(len(photographs()))]
    width, height = (int(np.clip(random.normal(mean, mean / 8), .6 * mean, 1.5 * mean)) for mean in (500, 375))
    if random.random() < .2:
        width, height = height, width
    picture = _part(photo, width, height, random)
    smooth = np.asarray(picture.filter(ImageFilter.GaussianBlur(2)), np.float32)
    detail = np.asarray(picture, np.float32) - smooth
    noise = random.normal(0, 16, (height, width, 1)).astype(np.float32)
    # Evenly spread over any run of numbers (golden ratio), so that the mean is right for few files too.
    low, high = _BITS_PER_PIXEL
    wanted = width * height / 8 * (low + (high - low) * (number * .6180339887 % 1))
    least, most = 0., 2.  # a blurred picture, the picture itself at 1, and one with noise
    for _ in range(_TRIES):
        strength = (least + most) / 2
        data = _encode(smooth + min(strength, 1) * detail + max(strength - 1, 0) * noise)
        least, most = (strength, most) if len(data) < wanted else (least, strength)
    return data


def _part(photo: Image.Image, width: int, height: int, random: np.random.Generator) -> Image.Image:
    """A part of a photograph with its corners moved, as a picture of this size."""
    scale = random.uniform(.6, 1) * min(photo.width / width, photo.height / height)
    part = np.array([width, height]) * scale
    corner = random.uniform(0, 1, 2) * (photo.size - part)
    corners = corner + part * [[0, 0], [0, 1], [1, 1], [1, 0]]
    corners += random.uniform(-.06, .06, (4, 2)) * part
    quad = np.clip(corners, 0, photo.size).ravel().tolist()
    return photo.transform((width, height), Image.Transform.QUAD, quad, Image.Resampling.BICUBIC)


def _encode(pixels: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, 'JPEG', quality=_QUALITY, subsampling=0)
    return file.getvalue()


def facts_of(files: Iterable[bytes]) -> dict:
    """What decides how costly image files are: counts and means, and the shares of each kind in percent."""
    sizes, pixels, kinds, shapes = [], [], Counter(), []
    for data in files:
        image = Image.open(BytesIO(data))
        kind = [image.format or '?', image.mode]
        if image.format == 'JPEG':
            kind[1:] = ['progressive' if image.info.get('progressive') else 'baseline', image.mode]
            if image.mode == 'RGB':
                kind[-1] = {0: '4:4:4', 1: '4:2:2', 2: '4:2:0'}.get(get_sampling(image), 'another subsampling')
        kinds[' '.join(kind)] += 1
        sizes.append(len(data))
        pixels.append(image.width * image.height)
        shapes.append(image.size)
    width, height = np.mean(shapes, 0)
    return dict(files=len(sizes), mean_kilobytes=float(np.mean(sizes)) / 1e3, least_kilobytes=min(sizes) / 1e3,
                most_kilobytes=max(sizes) / 1e3, bits_per_pixel=8 * sum(sizes) / sum(pixels),
                mean_width=float(width), mean_height=float(height), mean_megapixels=float(np.mean(pixels)) / 1e6,
                portrait_percent=100 * float(np.mean([h > w for w, h in shapes])),
                kinds=', '.join(f'{100 * count / len(sizes):.3g} % {kind}' for kind, count in kinds.most_common()))
