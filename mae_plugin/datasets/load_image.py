"""Reading labelled images as pretraining reads unlabelled ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mae_plugin.registry import TRANSFORMS

from .arrays import array_reader
from .picture import open_picture


@TRANSFORMS.register_module()
class LoadImage:
    """Loads the image of ``results['img_path']`` in 8 bits, as :func:`~.picture.open_picture`, or as it is.

    In place of OpenMMLab's ``LoadImageFromFile``, whose 16-bit greys become white. Gives ``results['img']`` as uint8
    (H, W, 3) in OpenMMLab's order of channels, blue first; with mode ``'exact'`` or ``'fast'``, as the
    :class:`~.picture.Picture` of which a :class:`~.timm_transforms.TimmTransform` or
    :class:`~.timm_transforms.LoopFreeRandomResizedCrop` that follows decodes no more than it needs. With ``'array'``,
    as float32 (H, W, C): three channels in the reverse of the file's order, so that ``to_rgb=True`` of the data
    preprocessor restores it, another number of them in the file's.

    Args:
        mode: How these two resize it. ``'exact'``: as Pillow, bit for bit. ``'fast'``: JPEGs by PyTorch, at most a
            level beside in the mean. None leaves no picture, but an array for any transform. ``'array'``: such an array
            of the numbers in the file, see :class:`~.arrays.ArrayReader`.
        ignore_orientation: Take the pixels as they are stored, as torchvision's data sets do, and not upright; so does
            ``'array'`` in any case.
        channels: With ``'array'``, the number of channels of the model; the other modes give 3.
        arrays: With ``'array'``, the same ``dict(bands=[...], nodata=...)`` as the pretraining data set.
        fill: What pixels without data become, a number for each channel: the ``mean`` of the data preprocessor, so that
            the encoder sees the zeros it knows from pretraining. Needed if ``arrays`` has ``nodata``.

    Raises:
        ValueError: ``mode`` is another, or the others do not go with it.
        ImageReadError: The file is no image, damaged, or of values out of range.
    """

    def __init__(self, mode: str | None = None, ignore_orientation: bool = False, channels: int = 3,
                 arrays: Mapping[str, Any] | None = None, fill: Sequence[float] | None = None) -> None:
        if mode not in (None, 'exact', 'fast', 'array'):
            raise ValueError(f"LoadImage: mode={mode!r} is not 'exact', 'fast', 'array' or None")
        if mode != 'array' and (channels, arrays, fill) != (3, None, None):
            raise ValueError(f"LoadImage: mode={mode!r} gives 3 channels of 8 bits: channels={channels!r}, "
                             f"arrays={arrays!r} and fill={fill!r} go with mode='array'")
        self.mode, self.ignore_orientation = mode, ignore_orientation
        self.reader = array_reader(channels, arrays) if mode == 'array' else None
        if self.reader and (self.reader.nodata is None) != (fill is None) or fill is not None and len(fill) != channels:
            raise ValueError(f'LoadImage: fill={fill!r} with arrays={arrays!r} and channels={channels}: with nodata, '
                             'and only then, fill has a number for each channel, those of data_preprocessor.mean')
        self.fill = None if fill is None else np.array(fill, np.float32)

    def __call__(self, results: dict) -> dict:
        """Fills in ``img``, ``img_shape`` and ``ori_shape``, both (H, W)."""
        if 'img' in results:  # MMPreTrain's inferencer has read it, or was given an array
            return results
        path = results['img_path']
        data = Path(path).read_bytes()
        if self.reader:
            picture = self.reader.open(data, str(path))
            pixels = picture.pixels()
            if self.fill is not None:
                pixels = np.where(np.isnan(pixels), self.fill, pixels)
        else:
            picture = open_picture(data, str(path), fast=self.mode == 'fast', upright=not self.ignore_orientation)
            pixels = picture if self.mode else picture.pixels()
        if isinstance(pixels, np.ndarray) and pixels.shape[2] == 3:
            pixels = np.ascontiguousarray(pixels[..., ::-1])
        results['img'] = pixels
        results['img_shape'] = results['ori_shape'] = picture.size[::-1]
        return results
