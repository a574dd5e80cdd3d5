"""The built-in data: scenes of handwritten digits on photographs, made in seconds, without a download, for every task.

The digits are scikit-learn's (1,797 of 8x8 pixels, by 43 people), the backgrounds crops of its two photographs::

    pretrain/{train,val}/000/000000.jpg            scenes without labels
    detection/{train,val}/000000.jpg               scenes, with
    detection/annotations/{train,val}.json         COCO boxes and masks (uncompressed RLE) of the visible pixels
    segmentation/images/{train,val}/000000.jpg     the same scenes, with
    segmentation/annotations/{train,val}/000000.png  0 background, 1 to 10 the digits 0 to 9
    classification/{train,val}/{0..9}/000000.jpg   one large digit
    meta.json                                      the settings

``train`` and ``val`` share neither a digit nor a region of a photograph. Scene i of a set is a function of the seed,
the set and i alone: more scenes leave the first ones as they are.
"""

import json
import time
from pathlib import Path

import numpy as np
from PIL import Image

from mae_plugin.datasets.making import ensure_folder

CLASSES = tuple('0123456789')
PRESETS = {
    'default': dict(seed=0, size=96, pretrain_train=4000, pretrain_val=200, detection_train=1000, detection_val=300,
                    classification_train=1000, classification_val=500),
    'quick': dict(seed=0, size=96, pretrain_train=800, pretrain_val=50, detection_train=200, detection_val=60,
                  classification_train=200, classification_val=100),
}
SPLITS = ('train', 'val')

_VERSION = 3  # of the scenes: raise it when the same settings give other pixels
_TRAIN_SHARE = .75  # of the digits and of the width of each photograph
_CROP = (80, 160)  # side of a background in pixels of the photograph; a quarter of the width of one is 160
_MIN_VISIBLE = .7  # share of a digit's pixels that stay in the frame and uncovered
_FADE = .5  # of the contrast within a photograph; with all of it, a thousand labels teach a small network nothing
_MIN_CONTRAST = 80  # of the luminance of a digit over that of what lies under it, of 255; white where nothing has it
_LUMA = np.array([.299, .587, .114], dtype=np.float32)


def ensure_digit_scenes(root: str | Path = 'data/digit_scenes', preset: str = 'default', **settings: int) -> Path:
    """Return the folder of the scenes, made first when it is not there.

    Args:
        root: The folder.
        preset: ``'default'`` or ``'quick'``: the settings to start from.
        **settings: What differs from the preset: ``seed``, ``size`` (pixels of a side of the square scenes), and the
            numbers of images ``{pretrain,detection,classification}_{train,val}``. The images for detection serve
            segmentation too.

    Raises:
        ValueError: An unknown or impossible setting, or ``root`` was made with other settings.
        ModuleNotFoundError: scikit-learn is not installed.
    """
    if preset not in PRESETS:
        raise ValueError(f'digit_scenes: preset={preset!r} is none of {", ".join(PRESETS)}')
    wanted = {'maker': 'digit_scenes', 'version': _VERSION, **PRESETS[preset]}
    for name, value in settings.items():
        if name not in PRESETS[preset]:
            raise ValueError(f'digit_scenes: no setting {name!r}; there are {", ".join(PRESETS[preset])}')
        least = {'seed': 0, 'size': 64}.get(name, 1)
        if not isinstance(value, int) or value < least:
            raise ValueError(f'digit_scenes: {name}={value!r} is not a whole number of at least {least}')
        wanted[name] = value

    def make(folder: Path) -> None:
        start = time.monotonic()
        print(f'digit_scenes: making scenes of {wanted["size"]}x{wanted["size"]} pixels in {root} ...', flush=True)
        _make(folder, wanted)
        images = sum(value for name, value in wanted.items() if name.endswith(SPLITS))
        print(f'digit_scenes: {images} images in {time.monotonic() - start:.0f} s', flush=True)

    return ensure_folder(root, wanted, make)


def load_sources() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Load scikit-learn's digits (N, 8, 8) in [0, 1], their labels (N,), and its photographs, uint8 (H, W, 3)."""
    try:
        from sklearn.datasets import load_digits, load_sample_images
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'the built-in data needs scikit-learn: pip install scikit-learn, or mae-plugin[demo]') from None
    digits = load_digits()
    return digits.images.astype(np.float32) / 16, digits.target, load_sample_images().images


def split_sources(digits: np.ndarray, labels: np.ndarray, photos: list[np.ndarray]) -> dict[str, tuple]:
    """Give ``train`` the first three quarters of the digits and of each photograph's width, ``val`` the rest.

    The digits come in the order they were collected in, so this also separates most of the writers.
    """
    def part(array, axis, first):
        edge = int(array.shape[axis] * _TRAIN_SHARE)
        return array[(slice(None),) * axis + (slice(None, edge) if first else slice(edge, None),)]

    return {split: (part(digits, 0, first), part(labels, 0, first), [part(photo, 1, first) for photo in photos])
            for split, first in (('train', True), ('val', False))}


class ScenePainter:
    """Paints square scenes of ``size`` pixels a side from digits (N, 8, 8), their labels (N,) and photographs."""

    def __init__(self, digits: np.ndarray, labels: np.ndarray, photos: list[np.ndarray], size: int):
        self.digits = np.pad(digits, ((0, 0), (2, 2), (2, 2)))  # room for the bicubic kernel
        self.labels = labels
        self.by_label = [np.flatnonzero(labels == label) for label in range(10)]
        self.photos = [Image.fromarray(photo) for photo in photos]
        self.size = size

    def scene(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Paint two to four digits, which may cover each other in part.

        Returns:
            The image, uint8 (size, size, 3); which digit is seen at each pixel, (size, size): 0 for none, i for the ith
            painted; and the labels of the digits in that order.
        """
        image, owner, labels = self._background(rng), np.zeros((self.size, self.size), np.uint8), []
        areas = visible = np.zeros(0, int)
        wanted = rng.integers(2, 5)
        for _ in range(4 * wanted):
            which = rng.integers(len(self.digits))
            alpha = self._stretched(rng, which, self.size * rng.uniform(.22, .48))
            corner = [rng.integers(-n // 6, self.size - n + n // 6 + 1) for n in alpha.shape]
            area = np.count_nonzero(alpha >= .5)
            window, alpha = self._placed(alpha, corner)
            mask = alpha >= .5
            left = visible - np.bincount(owner[window][mask], minlength=len(labels) + 1)[1:]
            if mask.sum() >= _MIN_VISIBLE * area and (left >= _MIN_VISIBLE * areas).all():
                areas, visible = np.append(areas, area), np.append(left, mask.sum())
                labels.append(int(self.labels[which]))
                owner[window][mask] = len(labels)
                self._blend(rng, image[window], alpha)
            if len(labels) == wanted:
                break
        return _to_uint8(image), owner, labels

    def portrait(self, rng: np.random.Generator, label: int) -> np.ndarray:
        """Paint one large digit of a label near the middle: uint8 (size, size, 3)."""
        which = rng.choice(self.by_label[label])
        alpha = self._stretched(rng, which, self.size * rng.uniform(.35, .7))
        corner = [int((self.size - n) * rng.uniform(.2, .8)) for n in alpha.shape]
        image = self._background(rng)
        window, alpha = self._placed(alpha, corner)
        self._blend(rng, image[window], alpha)
        return _to_uint8(image)

    def _background(self, rng: np.random.Generator) -> np.ndarray:
        photo = self.photos[rng.integers(len(self.photos))]
        side = rng.uniform(*_CROP)
        left, top = rng.uniform(0, photo.width - side), rng.uniform(0, photo.height - side)
        crop = photo.resize((self.size, self.size), Image.BICUBIC, box=(left, top, left + side, top + side))
        image = np.asarray(crop, dtype=np.float32)[:, ::rng.choice([-1, 1])]
        gain = rng.uniform(.4, .8) * rng.uniform(.85, 1.15, 3)
        mean = image.mean((0, 1))
        return (mean + _FADE * (image - mean)) * gain.astype(np.float32)

    def _stretched(self, rng: np.random.Generator, which: int, height: float) -> np.ndarray:
        """Enlarge a digit to about ``height`` pixels, turned and sheared a little; return its opacity, cut to size."""
        angle, shear, aspect = np.deg2rad(rng.uniform(-15, 15)), rng.uniform(-.2, .2), rng.uniform(.85, 1.2)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        forward = turn @ np.array([[aspect, shear], [0, 1]]) * height / 8
        back = np.linalg.inv(forward)
        side = int(1.7 * height) + 2
        offset = 6 - back @ [side / 2, side / 2]  # the centre of the padded digit goes to the centre of the patch
        rows = [(*back[i], offset[i]) for i in range(2)]
        patch = Image.fromarray(self.digits[which]).transform(
            (side, side), Image.AFFINE, (*rows[0], *rows[1]), resample=Image.BICUBIC)
        alpha = np.clip((np.asarray(patch) - .3) / .3, 0, 1)
        ys, xs = (np.flatnonzero((alpha >= .5).any(axis)) for axis in (1, 0))
        return alpha[ys[0]:ys[-1] + 1, xs[0]:xs[-1] + 1]

    def _placed(self, alpha: np.ndarray, corner: list[int]) -> tuple[tuple[slice, slice], np.ndarray]:
        """Cut the opacities (h, w), whose top left pixel lies at ``corner`` = (y, x), at the edges of the scene."""
        (y, x), (h, w) = corner, alpha.shape
        top, left, bottom, right = max(y, 0), max(x, 0), min(y + h, self.size), min(x + w, self.size)
        return np.s_[top:bottom, left:right], alpha[top - y:bottom - y, left - x:right - x]

    def _blend(self, rng: np.random.Generator, image: np.ndarray, alpha: np.ndarray) -> None:
        """Paint opacities (h, w) on this part of a scene, float (h, w, 3), in place, in some light colour."""
        under = image[alpha >= .5].mean(0) @ _LUMA
        for colour in rng.uniform(60, 255, (12, 3)).astype(np.float32):
            if colour @ _LUMA - under >= _MIN_CONTRAST:
                break
        else:
            colour = np.full(3, 255, np.float32)
        opacity = (alpha * np.float32(rng.uniform(.85, 1)))[..., None]
        image += (colour - image) * opacity


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _make(folder: Path, settings: dict) -> None:
    sources = split_sources(*load_sources())
    for number, split in enumerate(SPLITS):
        painter = ScenePainter(*sources[split], settings['size'])

        def stream(task: int, index: int, number: int = number) -> np.random.Generator:
            return np.random.default_rng([settings['seed'], task, number, index])

        for i in range(settings[f'pretrain_{split}']):
            rng = stream(0, i)
            image = painter.scene(rng)[0] if rng.random() < .75 else painter.portrait(rng, rng.integers(10))
            _save(image, folder / 'pretrain' / split / f'{i // 500:03d}' / f'{i:06d}.jpg')
        for i in range(settings[f'classification_{split}']):
            path = folder / 'classification' / split / str(i % 10) / f'{i:06d}.jpg'
            _save(painter.portrait(stream(1, i), label=i % 10), path)
        coco = dict(images=[], annotations=[],
                    categories=[dict(id=label + 1, name=name) for label, name in enumerate(CLASSES)])
        for i in range(settings[f'detection_{split}']):
            _save_scene(folder, split, i, *painter.scene(stream(2, i)), coco)
        path = folder / 'detection' / 'annotations' / f'{split}.json'
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(coco))


def _save(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=92)


def _save_scene(folder: Path, split: str, index: int, image: np.ndarray, owner: np.ndarray, labels: list[int],
                coco: dict) -> None:
    name = f'{index:06d}.jpg'
    _save(image, folder / 'detection' / split / name)
    _save(image, folder / 'segmentation' / 'images' / split / name)
    values = np.array([0, *(label + 1 for label in labels)], np.uint8)
    _save(values[owner], folder / 'segmentation' / 'annotations' / split / f'{index:06d}.png')
    coco['images'].append(dict(id=index + 1, file_name=name, height=owner.shape[0], width=owner.shape[1]))
    for position, label in enumerate(labels, start=1):
        mask = owner == position
        ys, xs = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        box = [int(xs[0]), int(ys[0]), int(xs[-1] - xs[0] + 1), int(ys[-1] - ys[0] + 1)]
        coco['annotations'].append(dict(
            id=len(coco['annotations']) + 1, image_id=index + 1, category_id=label + 1, iscrowd=0, bbox=box,
            area=int(mask.sum()), segmentation=dict(size=list(mask.shape), counts=_run_lengths(mask))))


def _run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed RLE: lengths of the runs of 0, 1, 0 ... in the column-major order of the pixels."""
    flat = np.concatenate([[False], mask.ravel(order='F')])
    edges = np.flatnonzero(np.diff(flat))
    return np.diff([0, *edges, mask.size]).tolist()
