"""Transforms whose random choices are functions of the sample's key.

``results['img']`` is a :class:`~.picture.Picture` until one of them takes its pixels, then uint8 of shape (H, W, C). A
``mask_map`` in the results, see :class:`~.mask_map.LoadMaskMap`, goes the same way.
"""

from math import exp, log, sqrt

import numpy as np
import torch
from mmengine.structures import BaseDataElement

from mae_plugin.registry import TRANSFORMS

from .encoded import EncodedCrop
from .picture import Picture
from .sample_key import SampleKey, generator

_TRIES = 10
_PICTURES = ('img', 'mask_map')


def _size(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) in pixels; an int means a square."""
    if size is None:
        raise ValueError('size=None stands for model.backbone.img_size, which tools/train.py and test.py put in; '
                         'elsewhere give a number')
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(side, int) and side > 0 for side in pair):
        raise ValueError(f'size={size!r} is neither a positive int nor a pair (height, width) of them')
    return pair


def _pixels(image: Picture | np.ndarray) -> np.ndarray:
    """uint8 (H, W, C), also where no transform has taken the pixels yet."""
    return image.pixels() if isinstance(image, Picture) else image


@TRANSFORMS.register_module()
class KeyedRandomResizedCrop:
    """A box of random area and shape, resized: torchvision's ``RandomResizedCrop`` with numbers from the sample's key.

    The MAE recipe is ``scale=(0.2, 1)`` and bicubic with antialiasing, as PIL does it (He et al. 2022, appendix A.1).

    Args:
        size: of the result, an int or (height, width), in pixels. In a config for the tools None is the model's
            ``backbone.img_size``.
        scale: least and largest area of the box, as shares of the image's.
        ratio: least and largest width of the box over its height.

    Raises:
        ValueError: if a range is empty or not positive, or ``scale`` exceeds 1.
    """

    def __init__(self, size: int | tuple[int, int], scale: tuple[float, float] = (0.2, 1.0),
                 ratio: tuple[float, float] = (3 / 4, 4 / 3)) -> None:
        self.size = _size(size)
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f'KeyedRandomResizedCrop: scale={scale!r} is not a range in (0, 1]')
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f'KeyedRandomResizedCrop: ratio={ratio!r} is not a range of positive numbers')
        self.scale = tuple(scale)
        self.ratio = tuple(ratio)

    def box(self, width: int, height: int, key: SampleKey) -> tuple[int, int, int, int]:
        """The box (left, top, right, bottom) for an image of this size: within it, corners in whole pixels.

        Ten draws are tried for one that fits; otherwise it is the largest centred box whose shape is in ``ratio``.
        """
        random = generator(key, 'crop')
        for _ in range(_TRIES):
            area = width * height * random.uniform(*self.scale)
            shape = exp(random.uniform(log(self.ratio[0]), log(self.ratio[1])))
            box_width, box_height = round(sqrt(area * shape)), round(sqrt(area / shape))
            if 0 < box_width <= width and 0 < box_height <= height:
                left = random.integers(width - box_width, endpoint=True)
                top = random.integers(height - box_height, endpoint=True)
                break
        else:
            shape = min(max(width / height, self.ratio[0]), self.ratio[1])
            box_width, box_height = min(width, round(height * shape)), min(height, round(width / shape))
            left, top = (width - box_width) // 2, (height - box_height) // 2
        return int(left), int(top), int(left) + box_width, int(top) + box_height

    def __call__(self, results: dict) -> dict:
        """Crops and resizes ``results['img']``."""
        box = self.box(*results['img'].size, results['sample_key'])
        return results | {name: results[name].resized(self.size, box) for name in _PICTURES if name in results}


@TRANSFORMS.register_module()
class KeyedRandomFlip:
    """Mirrors left and right with a probability, by the sample's key.

    Args:
        prob: probability, in [0, 1].
    """

    def __init__(self, prob: float = 0.5) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f'KeyedRandomFlip: prob={prob!r} is not in [0, 1]')
        self.prob = prob

    def __call__(self, results: dict) -> dict:
        """Mirrors ``results['img']``, or not."""
        if generator(results['sample_key'], 'flip').random() >= self.prob:
            return results
        pictures = {name: results[name] for name in _PICTURES if name in results}
        return results | {name: picture.flipped() if isinstance(picture, EncodedCrop) else _pixels(picture)[:, ::-1]
                          for name, picture in pictures.items()}


@TRANSFORMS.register_module()
class ResizeCenterCrop:
    """The centre of the image, the same each time: for validation.

    The image is resized bicubically, keeping its shape, so that it just covers ``size / crop_share``; then its centre
    is cut out. With the default this is the usual evaluation at 224 pixels: the shorter side to 256, then the centre.

    Args:
        size: of the result, an int or (height, width), in pixels; None as for :class:`KeyedRandomResizedCrop`.
        crop_share: share of the covering side that is kept, in (0, 1].
    """

    def __init__(self, size: int | tuple[int, int], crop_share: float = 0.875) -> None:
        self.size = _size(size)
        if not 0 < crop_share <= 1:
            raise ValueError(f'ResizeCenterCrop: crop_share={crop_share!r} is not in (0, 1]')
        self.crop_share = crop_share

    def __call__(self, results: dict) -> dict:
        """Resizes and crops ``results['img']``."""
        picture = results['img']
        height, width = (int(side / self.crop_share) for side in self.size)
        if width * picture.size[1] >= height * picture.size[0]:
            height = width * picture.size[1] // picture.size[0]
        else:
            width = height * picture.size[0] // picture.size[1]
        top, left = self.corner(height, width, results.get('sample_key'))
        for name in _PICTURES:
            if name in results:
                pixels = _pixels(results[name].resized((height, width)))
                results[name] = pixels[top:top + self.size[0], left:left + self.size[1]]
        return results

    def corner(self, height: int, width: int, key: SampleKey | None) -> tuple[int, int]:
        """(top, left) of what is cut out of the resized image."""
        return round((height - self.size[0]) / 2), round((width - self.size[1]) / 2)


@TRANSFORMS.register_module()
class PackUnlabelled:
    """Turns pixels into what the model takes: ``inputs``, uint8 of shape (C, H, W), and its ``data_samples``.

    The ``inputs`` of an image that is left to the GPU are the :class:`~.encoded.EncodedCrop` that it is.
    """

    def __call__(self, results: dict) -> dict:
        """Packs ``results``; the sample's key, path and original (height, width) become meta information.

        So does ``bad_images``, if an image could not be read: (path, reason) of each that this one stands for; and with
        repeated augmentation ``decoded``: whether the image was decoded for this sample, or for an earlier one. A
        ``mask_map``, uint8 (H, W), becomes its data.
        """
        image = results['img']
        if not isinstance(image, EncodedCrop):
            image = torch.from_numpy(np.array(_pixels(image).transpose(2, 0, 1), order='C'))
        sample = BaseDataElement()
        sample.set_field(tuple(results['sample_key']), 'sample_key', field_type='metainfo')
        names = ['img_path', 'ori_shape']
        names += [name for name in ('bad_images', 'decoded') if results.get(name, ()) != ()]
        for name in names:  # by metainfo= all of it would be copied, as deep as it is
            sample.set_field(results[name], name, field_type='metainfo')
        if 'mask_map' in results:  # as an array: a worker would hand over each tensor as an open file
            sample.mask_map = np.array(_pixels(results['mask_map'])[..., 0])
        return dict(inputs=image, data_samples=sample)
