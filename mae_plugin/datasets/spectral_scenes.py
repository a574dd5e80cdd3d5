"""The built-in data in 13 channels: handwritten digits as a satellite would take them, made without a download.

    {train,val}/{0..9}/000000.npy    uint16 (H, W, 13), one large digit; no data is 0
    meta.json                        the settings

The channels have the wavelengths of Sentinel-2's bands (443 to 2190 nm) and are made up of the colours of the scenes of
:mod:`~mae_plugin.datasets.digit_scenes`: those that the eye sees of their neighbours in red, green and blue, the
infrared ones of what the scene does not show of them. In every second file a slanted margin has no data, as
at the edge of a swath. ``train`` and ``val`` share neither a digit nor a region of a photograph.
"""

import time
from pathlib import Path

import numpy as np

from .digit_scenes import SPLITS, ScenePainter, load_sources, split_sources
from .making import ensure_folder

WAVELENGTHS = (443, 490, 560, 665, 705, 740, 783, 842, 865, 945, 1375, 1610, 2190)  # nm
_COLOURS = np.array([665, 560, 490])  # nm of red, green and blue
_WIDTH = 60  # nm, of how far a colour reaches
_FULL = 10_000  # the number of a reflectance of 1, as in Sentinel-2's products
_VERSION = 1  # of the scenes: raise it when the same settings give other numbers


def ensure_spectral_scenes(root: str | Path = 'data/spectral_scenes', seed: int = 0, size: int = 96, train: int = 300,
                           val: int = 60) -> Path:
    """Return the folder of the scenes, made first when it is not there.

    Args:
        root: The folder.
        seed: Of all random choices.
        size: Pixels of a side.
        train: Number of images of this split, the ten digits in turn.
        val: Likewise.

    Raises:
        ValueError: An impossible setting, or ``root`` was made with other settings.
        ModuleNotFoundError: scikit-learn is not installed.
    """
    wanted = dict(maker='spectral_scenes', version=_VERSION, seed=seed, size=size, train=train, val=val)
    for name, least in dict(seed=0, size=64, train=1, val=1).items():
        if not isinstance(wanted[name], int) or wanted[name] < least:
            raise ValueError(f'spectral_scenes: {name}={wanted[name]!r} is not a whole number of at least {least}')

    def make(folder: Path) -> None:
        start = time.monotonic()
        print(f'spectral_scenes: making {train + val} scenes of {size}x{size} pixels in {root} ...', flush=True)
        sources = split_sources(*load_sources())
        for number, split in enumerate(SPLITS):
            painter = ScenePainter(*sources[split], size)
            for i in range(wanted[split]):
                rng = np.random.default_rng([seed, number, i])
                values = to_bands(painter.portrait(rng, i % 10), rng)
                if i % 2:
                    values[_margin(size, rng)] = 0
                path = folder / split / str(i % 10) / f'{i:06d}.npy'
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, values)
        print(f'spectral_scenes: done in {time.monotonic() - start:.0f} s', flush=True)

    return ensure_folder(root, wanted, make)


def to_bands(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Numbers of at least 1, uint16 (H, W, 13), of an image uint8 (H, W, 3)."""
    reflectance = (image / np.float32(255)) ** 2
    wavelengths = np.array(WAVELENGTHS)[:, None]
    weights = np.exp(-((wavelengths - _COLOURS) / _WIDTH) ** 2 / 2)
    infrared = np.clip((wavelengths - 690) / 60, 0, 1)  # from the red edge on
    beyond = .6 * reflectance[..., 1:2] * (1 - reflectance[..., 2:]) + .2 * (1 - reflectance[..., :1])
    visible = reflectance @ (weights / np.maximum(weights.sum(1, keepdims=True), 1e-3)).T
    fall = np.exp(-(wavelengths - 850) / 1500).T  # the Sun's light gets less
    bands = visible * (1 - infrared.T) + beyond * fall * infrared.T
    bands += rng.normal(0, .003, bands.shape)
    return np.clip(np.rint(bands * _FULL), 1, 65535).astype(np.uint16)


def _margin(size: int, rng: np.random.Generator) -> np.ndarray:
    """Where a slanted margin of up to a quarter of a side lies, bool (size, size)."""
    edge = rng.uniform(.05, .25) + rng.uniform(-.2, .2) * (np.arange(size) / size - .5)
    margin = np.arange(size) < (edge * size)[:, None]
    return margin[:, ::-1] if rng.random() < .5 else margin
