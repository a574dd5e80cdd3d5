"""Reading labelled images as pretraining reads unlabelled ones."""

from io import BytesIO
from pathlib import Path

import numpy as np

from mae_plugin.registry import TRANSFORMS

from .image_io import decode_image


@TRANSFORMS.register_module()
class LoadImage:
    """Loads the image of ``results['img_path']`` by :func:`decode_image`: 16 bits scaled, not clipped, and upright.

    In place of OpenMMLab's ``LoadImageFromFile``, whose 16-bit greys become white. Gives ``results['img']`` as uint8
    (H, W, 3) in OpenMMLab's order of channels, blue first.

    Raises:
        ImageReadError: The file is no image, damaged, or of values out of range.
    """

    def __call__(self, results: dict) -> dict:
        """Fills in ``img``, ``img_shape`` and ``ori_shape``, both (H, W)."""
        path = results['img_path']
        image = decode_image(BytesIO(Path(path).read_bytes()), str(path))
        results['img'] = np.ascontiguousarray(np.asarray(image)[..., ::-1])
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results
