"""Pictures of what a masked autoencoder sees and predicts."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from urllib.parse import quote

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor

from mae_plugin.datasets import PackUnlabelled, ResizeCenterCrop, SampleKey, UnlabelledImages
from mae_plugin.datasets.image_io import ImageReadError
from mae_plugin.datasets.reader import EXTENSIONS
from mae_plugin.models import MaskedAutoencoder
from mae_plugin.models.masked_autoencoder import Reconstruction
from mae_plugin.visualization.pictures import TILE, Sheet, Tile, photo
from mae_plugin.visualization.style import STYLE
from mae_plugin.weights.checkpoint import said

NORMALISED = ('The model predicts each patch up to its brightness and contrast; here these two are taken from the true '
              'image, which flatters the picture and the PSNR.')
COLUMNS = ('original', 'seen', 'predicted', 'seen and predicted')
_NO_DATA = (170, 60, 150)  # a purple that is rare in photographs


@dataclass(frozen=True)
class Display:
    """How images of any number of channels become pictures.

    Args:
        mean: Of each channel, in pixel values, (C, 1, 1).
        std: Likewise.
        bands: Three channels to show as red, green and blue, or one as grey; None for the first three, or the first.
        stretch: Show ``mean - 2 std`` as black and ``mean + 2 std`` as white, for values that are not 8-bit.

    Raises:
        ValueError: If ``bands`` are not one or three of the channels.
    """

    mean: Tensor
    std: Tensor
    bands: Sequence[int] | None = None
    stretch: bool = False

    def __post_init__(self) -> None:
        channels = len(self.mean)
        if self.bands is not None and (
                len(self.bands) not in (1, 3) or not all(0 <= band < channels for band in self.bands)):
            raise ValueError(f'bands={list(self.bands)}: one or three numbers of channels are shown, each from 0 to '
                             f'{channels - 1}, for the images have {channels}')

    def __call__(self, pixels: Tensor, valid: Tensor | None = None) -> list[np.ndarray]:
        """Images (B, C, H, W) in pixel values as uint8 (H, W, 3); where ``valid`` is False, in one colour."""
        bands = list(self.bands or (range(3) if len(self.mean) > 2 else (0, )))
        if self.stretch:
            pixels = (pixels - self.mean) * (255 / (4 * self.std)) + 127.5
        shown = pixels[:, bands].clamp(0, 255).round().byte().expand(-1, 3, -1, -1)
        if valid is not None:
            colour = torch.tensor(_NO_DATA, dtype=torch.uint8, device=shown.device).view(3, 1, 1)
            shown = torch.where(valid[:, bands].all(dim=1, keepdim=True), shown, colour)
        return list(shown.permute(0, 2, 3, 1).cpu().numpy())


@dataclass(frozen=True)
class Pictures:
    """Of each image uint8 (H, W, 3) for each of :data:`COLUMNS`, and the PSNR in dB.

    Where the target cannot be turned back into pixels, there are the first two columns only, and ``psnr`` is None.
    """

    columns: list[list[np.ndarray]]
    psnr: list[float] | None


def is_8_bit(samples: Sequence[dict]) -> bool:
    """Whether the images of ``samples``, as a data set gives them, are bytes; they are also while still encoded."""
    return not any(isinstance(sample['inputs'], Tensor) and sample['inputs'].is_floating_point() for sample in samples)


def data_range_of(cfg) -> float:
    """What the PSNR of a run is relative to: the ``data_range`` of its validation, 255 where it says none."""
    return said(cfg.get('val_evaluator'), 'data_range') or 255


def reconstruct(model: MaskedAutoencoder, samples: Sequence[dict], bands: Sequence[int] | None = None,
                data_range: float = 255) -> Pictures:
    """What ``model``, in eval mode, makes of ``samples`` of a data set; ``bands`` as for :class:`Display`."""
    preprocessor = model.data_preprocessor
    display = Display(preprocessor.mean, preprocessor.std, bands, stretch=not is_8_bit(samples))
    data = preprocessor(pseudo_collate(samples))
    found: Reconstruction = model.reconstruct(data['inputs'], data['data_samples'], data_range)
    made = [display(found.original, found.valid), display(found.seen, found.valid)]
    if found.prediction is None:
        return Pictures(made, None)
    # A prediction has no place where there is no data only in the image that it is pasted into.
    made += [display(found.prediction), display(found.pasted, found.valid)]
    return Pictures(made, found.psnr.tolist())


def tiles(pictures: Pictures, side: int = TILE) -> list[list[Tile]]:
    """For each image a tile for each column, the PSNR below the last."""
    rows = [[Tile(photo(picture, side)) for picture in row] for row in zip(*pictures.columns, strict=True)]
    for row, psnr in zip(rows, pictures.psnr or (), strict=bool(pictures.psnr)):
        row[-1].note = f'{psnr:.1f} dB'
    return rows


def panel(title: str, pictures: Pictures, normalised: bool, side: int = TILE) -> Sheet:
    """All of it as one sheet, an image a row; predictions of normalised patches are marked as such."""
    rows = tiles(pictures, side)
    for row in rows if normalised and pictures.psnr else ():
        row[2].note = 'brightness, contrast:\nof the original'
    return Sheet('reconstruction', title, '', COLUMNS[:len(pictures.columns)], rows, across=1)


def is_normalised(model: MaskedAutoencoder) -> bool:
    """Whether predictions lack brightness and contrast."""
    return getattr(model.head.target, 'norm_pix', False)


def why_no_pixels(model: MaskedAutoencoder) -> str | None:
    """Why there is no picture of what ``model`` predicts, or None if there is one."""
    if model.head.target.invertible:
        return None
    return (f'model.head.target is a {type(model.head.target).__name__}, whose predictions cannot be turned back into '
            'pixels: what the model sees can be shown, what it predicts cannot')


def samples_of(root: str, model: MaskedAutoencoder, seed: int,
               max_images: int) -> Iterator[tuple[str, dict | ImageReadError]]:
    """The first images of ``root``, read as for pretraining, their centre cut out in the size of the model.

    Args:
        root: An image, or what :class:`~mae_plugin.datasets.UnlabelledImages` takes as ``data_root``.
        model: Loaded from a checkpoint, which may say how its images were read.
        seed: Of the masks, which are a function of it and of the name of the file.
        max_images: How many files are tried.

    Yields:
        Path and sample; or path and the error of an image that cannot be read.
    """
    loading = said(model.loaded_from['card'], 'config', 'train_dataloader', 'dataset') or {}
    loading = {name: value for name, value in loading.items()
               if name in ('mode', 'channels', 'arrays') and loading.get('mode') == 'array'}
    pipeline = [ResizeCenterCrop(model.backbone.img_size, crop_share=1.), PackUnlabelled()]
    with TemporaryDirectory() as folder:
        if Path(root).suffix.lower() in (*EXTENSIONS, '.npy', '.npz') and Path(root).is_file():
            one = Path(folder, 'image.txt')
            one.write_text(str(Path(root).resolve()))
            root = str(one)
        dataset = UnlabelledImages(root, pipeline, **{'channels': model.backbone.in_chans, **loading})
    for index in range(min(max_images, len(dataset))):
        path = dataset.path(index)
        try:
            picture = dataset.read(index)
            key = SampleKey(seed, 0, zlib.crc32(PurePath(path).name.encode()))
            yield path, dataset.pipeline(
                dict(img=picture, img_path=path, ori_shape=picture.size[::-1], sample_key=key))
        except ImageReadError as error:
            yield path, error


def write_index(file: Path, psnr: Mapping[str, float], caption: str) -> None:
    """Write a page with the pictures of ``psnr``, in dB, that lie beside it."""
    figures = ''.join(f'<p>{psnr[name]:.2f} dB<br><img alt="{escape(name)}" src="{quote(name)}"></p>\n'
                      for name in psnr)
    file.write_text(f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>Reconstructions</title>\n'
                    f'<style>{STYLE} p img {{ max-width: 100%; }}</style></head>\n'
                    f'<body><main><h1>Reconstructions</h1>\n<p>{escape(caption)}</p>\n{figures}</main></body></html>\n',
                    encoding='utf-8')
