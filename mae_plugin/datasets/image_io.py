"""Any image file as the uint8 picture that the model takes."""

from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

MODES = {1: 'L', 3: 'RGB'}

_ORIENTATION = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageReadError(ValueError):
    """An image that cannot be read or decoded; the message names the file and the reason."""


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) if there is none or the EXIF block is damaged."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow's EXIF parser raises many types, and the pixels need none of it
        return 1


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Integer greys of 16 bits, or float greys in [0, 1], as the nearest 8-bit grey of the same brightness."""
    values = np.asarray(image)
    top = 1 if image.mode == 'F' else 65535
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= top):  # written so that NaN fails
        raise ValueError(f'{values.dtype} greys from {low} to {high}: rescale to [0, {top}], so that white is defined')
    return Image.fromarray(np.rint(values * (255 / top)).astype(np.uint8))


def decode_image(file: BinaryIO, name: str, channels: int = 3, upright: bool = True) -> Image.Image:
    """Decodes an image of any mode Pillow knows into 8 bits per channel, upright.

    - 16-bit grey is divided by 257, 32-bit float grey in [0, 1] multiplied by 255, both rounded: nothing is clipped or
      stretched.
    - Alpha is dropped, not blended, as OpenCV and so mmcv do: the pipelines of the tasks show the encoder the same.
    - The EXIF orientation is applied, also as mmcv does. Of an animation or a multi-page file the first picture is
      taken.

    Args:
        file: the encoded image, open for reading; not closed.
        name: what error messages call it.
        channels: 3 for RGB, 1 for grey (ITU-R 601 luma of a colour image).
        upright: whether the EXIF orientation is applied; a TIFF is always turned.

    Returns:
        Picture of mode ``RGB`` or ``L``.

    Raises:
        ImageReadError: if the file is no image, damaged, or of values out of range.
    """
    try:
        image = Image.open(file)
        image.load()
        # Not before: loading turns a TIFF upright, and finds a PNG's late EXIF.
        orientation = orientation_of(image) if upright else 1
        if image.mode.startswith('I') or image.mode == 'F':
            image = _to_8_bit(image)
        elif image.mode == 'P' and 'transparency' in image.info:
            image = image.convert('RGBA')  # else Pillow warns, once per image
        if image.mode != MODES[channels]:
            image = image.convert(MODES[channels])
        return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image
    except UnidentifiedImageError as error:
        raise ImageReadError(f'cannot read the image {name}: not an image of a known format') from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, DecompressionBombError and more
        raise ImageReadError(f'cannot read the image {name}: {error} ({type(error).__name__})') from error
