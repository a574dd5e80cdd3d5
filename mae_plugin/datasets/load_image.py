"""Reading labelled images as pretraining reads unlabelled ones."""

from pathlib import Path

import numpy as np

from mae_plugin.registry import TRANSFORMS

from .picture import open_picture


@TRANSFORMS.register_module()
class LoadImage:
    """Loads the image of ``results['img_path']`` in 8 bits, as :func:`~.picture.open_picture`.

    In place of OpenMMLab's ``LoadImageFromFile``, whose 16-bit greys become white. Gives ``results['img']`` as uint8
    (H, W, 3) in OpenMMLab's order of channels, blue first; with a ``mode``, as the :class:`~.picture.Picture` of which
    a :class:`~.timm_transforms.TimmTransform` or :class:`~.timm_transforms.LoopFreeRandomResizedCrop` that follows
    decodes no more than it needs.

    Args:
        mode: How these two resize it. ``'exact'``: as Pillow, bit for bit. ``'fast'``: JPEGs by PyTorch, at most a
            level beside in the mean. None leaves no picture, but an array for any transform.
        ignore_orientation: Take the pixels as they are stored, as torchvision's data sets do, and not upright.

    Raises:
        ValueError: ``mode`` is another.
        ImageReadError: The file is no image, damaged, or of values out of range.
    """

    def __init__(self, mode: str | None = None, ignore_orientation: bool = False) -> None:
        if mode not in (None, 'exact', 'fast'):
            raise ValueError(f"LoadImage: mode={mode!r} is not 'exact', 'fast' or None")
        self.mode, self.ignore_orientation = mode, ignore_orientation

    def __call__(self, results: dict) -> dict:
        """Fills in ``img``, ``img_shape`` and ``ori_shape``, both (H, W)."""
        if 'img' in results:  # MMPreTrain's inferencer has read it, or was given an array
            return results
        path = results['img_path']
        picture = open_picture(Path(path).read_bytes(), str(path), fast=self.mode == 'fast',
                               upright=not self.ignore_orientation)
        results['img'] = picture if self.mode else np.ascontiguousarray(picture.pixels()[..., ::-1])
        results['img_shape'] = results['ori_shape'] = picture.size[::-1]
        return results
