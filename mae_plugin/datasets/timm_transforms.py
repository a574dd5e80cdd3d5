"""Transforms of classification as the authors of MAE use them, for the images that OpenMMLab's loaders give."""

import math
import random
from itertools import chain

import numpy as np
import torch
from PIL import Image
from timm.data import auto_augment, create_transform
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision.transforms import InterpolationMode, Resize

from mae_plugin.registry import TRANSFORMS

from .picture import Box, Picture


def _to_picture(image: Picture | np.ndarray) -> Picture:
    """The picture of ``results['img']``: one, or uint8 (H, W, 3) in the order blue, green, red.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(image, Picture):
        return image
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f'the image is {image.dtype} {image.shape}, not uint8 (height, width, 3): let '
                         "LoadImageFromFile have color_type='color' or 'color_ignore_orientation'")
    return Picture(Image.fromarray(np.ascontiguousarray(image[..., ::-1])))


def _resizing(transform, picture: Picture) -> tuple[tuple[int, int], Box | None] | None:
    """The size (h, w) and the box that ``transform`` resizes ``picture`` to, if it does that bicubically and no more.

    Random numbers are drawn as by the transform, if the answer is not None.
    """
    if getattr(transform, 'interpolation', None) != InterpolationMode.BICUBIC:
        return None
    width, height = picture.size
    if type(transform) is RandomResizedCropAndInterpolation:
        stand_in = torch.empty(3, height, width, device='meta')  # of which only the size is read
        top, left, height, width = transform.get_params(stand_in, transform.scale, transform.ratio)
        return transform.size, (left, top, left + width, top + height)
    if type(transform) is Resize and isinstance(transform.size, int) and transform.max_size is None:
        long = int(transform.size * max(width, height) / min(width, height))
        return ((transform.size, long) if height <= width else (long, transform.size)), None
    return None


def _posterize(image: Image.Image, bits: int, **unused) -> Image.Image:
    """timm's, for which at full strength no bit is left: black, as it was before Pillow 12 refused it."""
    return auto_augment.posterize(image, bits) if bits else image.point(lambda value: 0)


@TRANSFORMS.register_module()
class TimmTransform:
    """timm's own transforms for training or evaluation, as the authors' fine-tuning takes them from timm.

    ``timm.data.create_transform(**kwargs)``, less what belongs after normalisation: ``MixupDataPreprocessor`` does
    that. Takes and gives ``results['img']`` as uint8 (H, W, 3) in OpenMMLab's order of channels, blue first; what timm
    sees is red first. To start from the pixels that torchvision's data sets give, load them by
    ``dict(type='mae_plugin.LoadImage', mode='exact', ignore_orientation=True)``: of the picture that it gives, a
    bicubic crop decodes and resizes its part alone.

    Args:
        **kwargs: Those of ``create_transform``: ``input_size``, ``is_training``, ``auto_augment``, ``interpolation``,
            ``crop_pct`` ...

    Raises:
        ValueError: ``re_prob`` asks for random erasing.
    """

    def __init__(self, **kwargs) -> None:
        if kwargs.get('re_prob'):
            raise ValueError('TimmTransform: random erasing follows normalisation, so re_prob is none of its settings: '
                             "give data_preprocessor.erasing.probability to 'mae_plugin.MixupDataPreprocessor'")
        # For a prefetcher timm leaves the pixels as uint8.
        self.transform = create_transform(**kwargs, use_prefetcher=True)
        for part in self.transform.transforms:
            for op in (*getattr(part, 'ops', ()), *chain(*getattr(part, 'policy', ()))):
                if op.aug_fn is auto_augment.posterize:
                    op.aug_fn = _posterize

    def __call__(self, results: dict) -> dict:
        """Transforms ``results['img']``."""
        picture, transforms = _to_picture(results['img']), self.transform.transforms
        resizing = _resizing(transforms[0], picture)
        image = picture.resized(*resizing) if resizing else picture.pixels()
        image = Image.fromarray(np.ascontiguousarray(image))  # of other layouts Pillow's copy is slow
        for transform in transforms[1:] if resizing else transforms:
            image = transform(image)
        pixels = np.asarray(image)  # (3, h, w), red first
        results['img'] = np.ascontiguousarray(pixels[::-1].transpose(1, 2, 0))
        results['img_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.transform})'


@TRANSFORMS.register_module()
class LoopFreeRandomResizedCrop:
    """A random box, resized bicubically, whose sides are clipped where the usual crop would draw again.

    Linear probing of MAE uses it, as BYOL and TensorFlow do; in one image of a few the result differs in distribution
    from torchvision's ``RandomResizedCrop``.

    Args:
        size: Side of the square result in pixels.
        scale: Least and largest area of the box before it is clipped, as shares of the image's.
        ratio: Least and largest width of the box over its height, likewise.

    Raises:
        ValueError: A range is empty or not positive.
    """

    def __init__(self, size: int, scale: tuple[float, float] = (0.08, 1.0),
                 ratio: tuple[float, float] = (3 / 4, 4 / 3)) -> None:
        for name, (low, high) in dict(scale=scale, ratio=ratio).items():
            if not 0 < low <= high:
                raise ValueError(f'LoopFreeRandomResizedCrop: {name}={(low, high)} is not a range of positive numbers')
        self.size, self.scale, self.ratio = size, tuple(scale), tuple(ratio)

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """A box (left, top, right, bottom) for an image of this size."""
        area = width * height * random.uniform(*self.scale)
        shape = math.exp(random.uniform(*map(math.log, self.ratio)))
        box_width = min(max(round(math.sqrt(area * shape)), 1), width)
        box_height = min(max(round(math.sqrt(area / shape)), 1), height)
        left, top = random.randint(0, width - box_width), random.randint(0, height - box_height)
        return left, top, left + box_width, top + box_height

    def __call__(self, results: dict) -> dict:
        """Crops and resizes ``results['img']``, a picture or uint8 (H, W, 3), blue first, which it gives."""
        picture = _to_picture(results['img'])
        crop = picture.resized((self.size, self.size), self.box(*picture.size))
        results['img'] = np.ascontiguousarray(crop[..., ::-1])
        results['img_shape'] = results['img'].shape[:2]
        return results
