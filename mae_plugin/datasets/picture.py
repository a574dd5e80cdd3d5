"""Pictures of which a transform takes a part, so that no more than that part has to be decoded."""

from collections.abc import Iterator
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate
from torchvision.io import ImageReadMode, decode_jpeg

from .image_io import decode_image, orientation_of
from .turbojpeg import JpegHeader, turbojpeg

Box = tuple[int, int, int, int]
_APP1, _PIXELS, _FILL = 0xE1, 0xDA, 0xFF  # markers of a JPEG


class Picture:
    """A decoded picture; what transforms find as ``results['img']`` until one of them takes its pixels.

    Args:
        image: of mode ``RGB`` or ``L``.
    """

    def __init__(self, image: Image.Image) -> None:
        self._image = image

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, as Pillow has it."""
        return self._image.size

    def pixels(self, box: Box | None = None) -> np.ndarray:
        """The pixels of a box (left, top, right, bottom), or all, as uint8 (h, w, C).

        Raises:
            ImageReadError: if the file turns out to be damaged.
        """
        pixels = np.asarray(self._image.crop(box) if box else self._image)
        return pixels.reshape(*pixels.shape[:2], -1)

    def resized(self, size: tuple[int, int], box: Box | None = None) -> np.ndarray:
        """The pixels of a box, or all, resized bicubically with antialiasing to ``size`` (h, w), as uint8 (h, w, C)."""
        return resize_exact(self.pixels(box), size)

    def decode(self) -> None:
        """Decodes all of it now, once, for several boxes.

        Raises:
            ImageReadError: if the file turns out to be damaged.
        """


def resize_exact(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pillow's bicubic resizing with antialiasing: uint8 (H, W, C), C 1 or 3, to (h, w, C)."""
    # Contiguous, else Pillow copies by a slow way.
    image = Image.fromarray(np.ascontiguousarray(pixels if pixels.shape[2] > 1 else pixels[..., 0]))
    resized = np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC))
    return resized.reshape(*size, -1)


def resize_fast(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """PyTorch's: the same filter by vector instructions for bytes, 3 times as fast, at times a level beside."""
    # A batch of one in (N, C, H, W) whose memory is channels last: what the vector code wants.
    picture = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    return interpolate(picture, size, mode='bicubic', antialias=True)[0].permute(1, 2, 0).numpy()


class ArrayPicture(Picture):
    """A picture whose pixels lie in an array, mapped from a file as a rule: of these, only a box is touched.

    Args:
        array: uint8 (H, W, C).
    """

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self._array.shape[1::-1]

    def pixels(self, box: Box | None = None) -> np.ndarray:
        """See :meth:`Picture.pixels`."""
        left, top, right, bottom = box or (0, 0, *self.size)
        return self._array[top:bottom, left:right].copy()

    def resized(self, size: tuple[int, int], box: Box | None = None) -> np.ndarray:
        """See :meth:`Picture.resized`; by :func:`~.picture.resize_fast`."""
        return resize_fast(self.pixels(box), size)


class JpegPicture(Picture):
    """A JPEG that is not decoded before it is known which part is wanted.

    Args:
        data: the file.
        name: what error messages call it.
        channels: 3 for RGB, 1 for grey.
        header: as TurboJPEG reads it, or None without that library.
        size: (width, height).
        fast: whether to resize by :func:`resize_fast`.
    """

    def __init__(self, data: bytes, name: str, channels: int, header: JpegHeader | None, size: tuple[int, int],
                 fast: bool) -> None:
        self.data, self.name, self.channels, self.fast = data, name, channels, fast
        self.header, self._size = header, size
        self._whole: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self._size

    def pixels(self, box: Box | None = None) -> np.ndarray:
        """See :meth:`Picture.pixels`."""
        if self._whole is not None:
            left, top, right, bottom = box or (0, 0, *self.size)
            return self._whole[top:bottom, left:right].copy()
        if self.header:
            pixels = turbojpeg().decode(self.data, self.header, box or (0, 0, *self.size), self.channels)
        else:
            pixels = _decode_by_torchvision(self.data, self.channels, box)
        if pixels is None:  # Pillow forgives some damage; what it does not forgive, it names
            # Only files that are upright, or are to be left as they are, come here.
            return Picture(decode_image(BytesIO(self.data), self.name, self.channels, upright=False)).pixels(box)
        return pixels

    def resized(self, size: tuple[int, int], box: Box | None = None) -> np.ndarray:
        """See :meth:`Picture.resized`."""
        return (resize_fast if self.fast else resize_exact)(self.pixels(box), size)

    def decode(self) -> None:
        """See :meth:`Picture.decode`."""
        self._whole = self.pixels()


def _decode_by_torchvision(data: bytes, channels: int, box: Box | None) -> np.ndarray | None:
    try:
        encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        pixels = decode_jpeg(encoded, ImageReadMode.RGB if channels == 3 else ImageReadMode.GRAY)
    except RuntimeError:
        return None
    left, top, right, bottom = box or (0, 0, *pixels.shape[:0:-1])
    return pixels.permute(1, 2, 0).numpy()[top:bottom, left:right]


def open_picture(data: bytes, name: str, channels: int = 3, fast: bool = False, upright: bool = True) -> Picture:
    """A picture of a file of any format, upright, in 8 bits a channel: see :func:`~.image_io.decode_image`.

    A JPEG is left encoded until a part of it is asked for, if the pixels are Pillow's for certain, or by ``fast``; the
    rest is decoded now, by Pillow: other formats, other colours than grey and YCbCr, a turned orientation, a cut end.

    Args:
        data: the file.
        name: what error messages call it.
        channels: 3 for RGB, 1 for grey.
        fast: whether JPEGs are resized by :func:`resize_fast`; a grey of theirs is then the luma they store.
        upright: whether the EXIF orientation is applied.

    Raises:
        ImageReadError: if the file is no image, or damaged.
    """
    return (_open_jpeg(data, name, channels, fast, upright)
            or Picture(decode_image(BytesIO(data), name, channels, upright)))


def _open_jpeg(data: bytes, name: str, channels: int, fast: bool, upright: bool) -> JpegPicture | None:
    if not data.startswith(b'\xff\xd8') or not data.endswith(b'\xff\xd9'):
        return None
    library = turbojpeg()
    header = library.header(data) if library else None
    if library and not header or not library and not fast:
        return None
    if header and not (upright and _has_exif(data)):
        size, colours, turned = header[:2], header.channels, False
    else:
        try:
            image = Image.open(BytesIO(data))
        except Exception:  # Pillow raises many types; decode_image names what it was
            return None
        size, colours = image.size, dict(L=1, RGB=3).get(image.mode)
        turned = upright and orientation_of(image) != 1
    limit = Image.MAX_IMAGE_PIXELS
    if turned or not colours or colours > channels and not fast or limit and size[0] * size[1] > 2 * limit:
        return None
    return JpegPicture(data, name, channels, header, size, fast)


def _has_exif(data: bytes) -> bool:
    """Whether a JPEG may note an orientation, in EXIF or XMP; to search the file takes 20 times as long."""
    return any(marker == _FILL or marker == _APP1 and data.startswith((b'Exif\0\0', b'http://ns.adobe.com/xap/'), start)
               for marker, start in jpeg_segments(data))


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker and start of each segment before the pixels of a JPEG (ITU-T T.81, annex B)."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _PIXELS:
        yield data[at + 1], at + 4
        at += 2 + int.from_bytes(data[at + 2:at + 4], 'big')
