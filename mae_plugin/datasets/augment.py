"""What the paper tries beside the random-size crop (He et al., 2022, Table 1e), as functions of the sample's key."""

import numpy as np
from PIL import Image
from torchvision.transforms import ColorJitter
from torchvision.transforms import functional as F

from mae_plugin.registry import TRANSFORMS

from .picture import Picture
from .sample_key import SampleKey, generator
from .transforms import ResizeCenterCrop, _pixels


@TRANSFORMS.register_module()
class KeyedResizeCrop(ResizeCenterCrop):
    """A crop of fixed size: resized as by :class:`ResizeCenterCrop`, of which not the centre is cut out, but any place.

    Args:
        size: of the result, an int or (height, width), in pixels; None as for :class:`KeyedRandomResizedCrop`.
        crop_share: share of the covering side that is kept, in (0, 1].
    """

    def corner(self, height: int, width: int, key: SampleKey) -> tuple[int, int]:
        """(top, left) of a crop from an image of this size, each place as likely."""
        random = generator(key, 'resize-crop')
        top, left = (int(random.integers(side - cut, endpoint=True))
                     for side, cut in zip((height, width), self.size, strict=True))
        return top, left


@TRANSFORMS.register_module()
class KeyedColorJitter:
    """Changes brightness, contrast, saturation and hue in random order: torchvision's ``ColorJitter``, by the key.

    The paper adds it to the random-size crop, and accuracy falls (Table 1e); it does not say the strength. The defaults
    are those of MoCo v2 and similar. Grey images have neither saturation nor hue, and keep what they have.

    Args:
        brightness: the factor is drawn from [max(0, 1 - brightness), 1 + brightness]; or a pair of its bounds.
        contrast: likewise.
        saturation: likewise.
        hue: the shift is drawn from [-hue, hue], in turns of the colour circle, at most 0.5; or a pair of its bounds.

    Raises:
        ValueError: if a strength is out of range, or an image is not uint8 of 1 or 3 channels.
    """

    def __init__(self, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4,
                 hue: float = 0.1) -> None:
        try:
            ranges = ColorJitter(brightness, contrast, saturation, hue)
        except (TypeError, ValueError) as error:
            raise ValueError(f'KeyedColorJitter: brightness={brightness}, contrast={contrast}, '
                             f'saturation={saturation}, hue={hue}: {error}') from error
        # None where nothing is to be changed.
        self.ranges = [(F.adjust_brightness, ranges.brightness), (F.adjust_contrast, ranges.contrast),
                       (F.adjust_saturation, ranges.saturation), (F.adjust_hue, ranges.hue)]

    def changes(self, key: SampleKey) -> list[tuple]:
        """(function, factor) in the order in which they are applied."""
        random = generator(key, 'color')
        drawn = [(function, float(random.uniform(*bounds))) for function, bounds in self.ranges if bounds]
        return [drawn[i] for i in random.permutation(len(drawn))]

    def __call__(self, results: dict) -> dict:
        """Changes ``results['img']``."""
        pixels = _pixels(results['img'])
        if pixels.dtype != np.uint8 or pixels.shape[2] not in (1, 3):
            raise ValueError(f'KeyedColorJitter: the image is {pixels.dtype} of {pixels.shape[2]} channels, and it '
                             'changes uint8 of 1 or 3: leave the transform out')
        image = Image.fromarray(np.ascontiguousarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]))
        for function, factor in self.changes(results['sample_key']):
            image = function(image, factor)
        results['img'] = Picture(image).pixels()
        return results
