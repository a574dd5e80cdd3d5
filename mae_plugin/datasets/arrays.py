"""Image files as the numbers they hold: any number of channels, any depth, pixels without data."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch.nn.functional import interpolate
from torchvision.io import ImageReadMode, decode_png

from .image_io import ImageReadError
from .picture import ArrayPicture, Box

_NPY, _ZIP, _PNG = b'\x93NUMPY', b'PK', b'\x89PNG'
_TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')  # the last two are BigTIFF
_DEPTH_OF_PNG = 24  # byte of the file, in its header chunk (PNG specification, 11.2.1)


class FloatPicture(ArrayPicture):
    """A picture of any numbers, which become float32 where a box of them is asked for.

    Args:
        array: (H, W, C), of booleans, integers or floats.
        name: what error messages call it.
        bands: which channels, in which order; None for all.
        nodata: value of pixels without data, see :class:`ArrayReader`.
    """

    def __init__(self, array: np.ndarray, name: str, bands: Sequence[int] | None = None,
                 nodata: float | None = None) -> None:
        super().__init__(array)
        self.name, self.bands, self.nodata = name, bands, nodata

    def pixels(self, box: Box | None = None) -> np.ndarray:
        """The pixels of a box, or all, as float32 (h, w, C), NaN where there is no data.

        Raises:
            ImageReadError: if there is a value that is not finite, and ``nodata`` is None.
        """
        left, top, right, bottom = box or (0, 0, *self.size)
        values = self._array[top:bottom, left:right]
        values = (values if self.bands is None else values[..., self.bands]).astype(np.float32, order='C')
        if self.nodata is not None:
            values[(values == np.float32(self.nodata)).all(axis=-1)] = np.nan
        if self._array.dtype.kind == 'f':
            finite = np.isfinite(values)
            if self.nodata is None and not finite.all():
                raise ImageReadError(f'cannot read the image {self.name}: it holds NaN or infinity; if they stand for '
                                     "no data, set arrays=dict(nodata='nan')")
            values[~finite] = np.nan
        return values

    def resized(self, size: tuple[int, int], box: Box | None = None) -> np.ndarray:
        """The pixels of a box, or all, resized bicubically with antialiasing to ``size`` (h, w), as float32 (h, w, C).

        Pixels without data have no weight; where less than half of the weight is left, there is no data.
        """
        values = torch.from_numpy(self.pixels(box)).permute(2, 0, 1)[None]
        missing = values.isnan() if self.nodata is not None else None
        if missing is None or not missing.any():
            return _resize(values, size)[0].permute(1, 2, 0).numpy()
        weight = _resize((~missing).float(), size)
        values = _resize(values.nan_to_num(0), size) / weight.clamp(min=.5)
        return values.masked_fill(weight < .5, torch.nan)[0].permute(1, 2, 0).numpy()


def _resize(imgs: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return interpolate(imgs, size, mode='bicubic', antialias=True)


class ArrayReader:
    """Reads PNG, TIFF, ``.npy``, ``.npz`` and whatever Pillow knows as the numbers in the file.

    Nothing is scaled, turned by EXIF, or converted: a palette image has one channel, of indices. A TIFF may have its
    channels interleaved, in planes, or one on each page; an ``.npz`` holds one array. Of three dimensions the last are
    the channels; or the first, if their number is right there only. With ``bands``, which may pick from any number, it
    is the shorter one of the two.

    Args:
        channels: of the model.
        bands: which channels of the file these are, in which order, counted from 0; None for all.
        nodata: a pixel of which all channels have this value has no data; NaN and infinity are none in any channel, if
            this is set, be it to ``'nan'``. Such values become NaN. None: all values are data, and have to be finite.

    Raises:
        ValueError: if an argument is out of range, or ``bands`` are not as many as ``channels``.
    """

    def __init__(self, channels: int, bands: Sequence[int] | None = None, nodata: float | str | None = None) -> None:
        if not isinstance(channels, int) or channels < 1:
            raise ValueError(f'channels={channels!r} is not a whole number of at least 1')
        if bands is not None:
            bands = list(bands)
            if len(bands) != channels or not all(isinstance(band, int) and band >= 0 for band in bands):
                raise ValueError(f'arrays: bands={bands} has to name {channels} channels, as channels={channels} says, '
                                 'counted from 0')
        try:
            self.nodata = None if nodata is None else float(nodata)
        except (TypeError, ValueError):
            raise ValueError(f"arrays: nodata={nodata!r} is neither a number, nor 'nan', nor None") from None
        self.channels, self.bands = channels, bands

    def open(self, data: bytes, name: str) -> FloatPicture:
        """The picture of a file.

        Args:
            data: the file.
            name: what error messages call it.

        Raises:
            ImageReadError: if the file is no image, damaged, or has other channels.
            ImportError: if a package is missing that a TIFF needs.
        """
        try:
            values = _decode(data)
            if values.dtype.kind not in 'buif' or not values.size:
                raise ValueError(f'it holds {values.dtype} {values.shape}, no pixels of integers or floats')
            return FloatPicture(self._channels_last(values), name, self.bands, self.nodata)
        except ImportError as error:
            raise ImportError(f'to read the image {name}: {error}') from error
        except UnidentifiedImageError as error:
            raise ImageReadError(f'cannot read the image {name}: not an image of a known format') from error
        except Exception as error:  # decoders raise many types
            raise ImageReadError(f'cannot read the image {name}: {error} ({type(error).__name__})') from error

    def _channels_last(self, values: np.ndarray) -> np.ndarray:
        """``values`` as (H, W, C)."""
        shape = values.shape
        if values.ndim == 2:
            values = values[..., None]
        if values.ndim != 3:
            raise ValueError(f'its shape {shape} is none of (H, W), (H, W, C), (C, H, W)')
        first, _, last = values.shape
        if values.ndim == len(shape) and (first == self.channels != last if self.bands is None else first < last):
            values = np.moveaxis(values, 0, -1)
        found = values.shape[2]
        if self.bands is None and found != self.channels:
            found = min(first, last)
            raise ValueError(f'it has {found} channels, of shape {shape}, but channels={self.channels}: set '
                             f'channels={found} and model.backbone.in_chans={found}, or pick {self.channels} of them '
                             'by arrays=dict(bands=[...])')
        if self.bands is not None and found <= max(self.bands):
            raise ValueError(f'it has {found} channels, of shape {shape}, but bands={self.bands}, counted from 0, '
                             'pick others: pick less, or leave such files out')
        return values


def _decode(data: bytes) -> np.ndarray:
    """The numbers of a file, in two or more dimensions."""
    if data.startswith(_NPY):
        return np.load(BytesIO(data), allow_pickle=False)
    if data.startswith(_ZIP):
        with np.load(BytesIO(data), allow_pickle=False) as arrays:
            if len(arrays.files) != 1:
                raise ValueError(f'it holds the arrays {", ".join(arrays.files) or "none"}: one is expected')
            return arrays[arrays.files[0]]
    if data.startswith(_TIFF):
        return _decode_tiff(data)
    if data.startswith(_PNG) and data[_DEPTH_OF_PNG:_DEPTH_OF_PNG + 1] == b'\x10':  # Pillow reads 8 of 16 bits
        pixels = decode_png(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.UNCHANGED)
        return pixels.permute(1, 2, 0).numpy()
    return np.asarray(Image.open(BytesIO(data)))


def _decode_tiff(data: bytes) -> np.ndarray:
    try:
        import tifffile
    except ImportError as error:
        raise ImportError("mode='array' reads TIFFs by tifffile: pip install tifffile, or mae-plugin[tiff]") from error
    try:
        with tifffile.TiffFile(BytesIO(data)) as file:
            if not file.series:
                raise ValueError('it has no page')
            return _without_ones(file.series[0].asarray())  # further ones are thumbnails, masks, overviews
    except (ValueError, KeyError) as error:
        if 'imagecodecs' in str(error):
            raise ImportError(f'{error}: pip install imagecodecs, or mae-plugin[tiff]') from error
        raise


def _without_ones(values: np.ndarray) -> np.ndarray:
    """Without the axes of length 1 that are one too many, of pages or of depth."""
    while values.ndim > 3 and 1 in values.shape:
        values = values.squeeze(axis=values.shape.index(1))
    return values


def array_reader(channels: int, arrays: dict[str, Any] | None) -> ArrayReader:
    """The reader of ``channels`` and the setting ``arrays``.

    Raises:
        ValueError: if ``arrays`` has an unknown key, or as :class:`ArrayReader`.
    """
    unknown = set(arrays or {}) - {'bands', 'nodata'}
    if unknown:
        raise ValueError(f'arrays has {", ".join(sorted(unknown))!r}, but knows only bands and nodata')
    return ArrayReader(channels, **arrays or {})
