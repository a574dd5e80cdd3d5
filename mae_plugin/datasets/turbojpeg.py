"""Parts of JPEG files, by the TurboJPEG library where there is one (version 3, of libjpeg-turbo)."""

import ctypes
import threading
from ctypes.util import find_library
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

# Of turbojpeg.h: parameters of tj3Get, colour spaces, pixel formats, and the width of the blocks that are coded
# together, by the number of the chroma subsampling: 4:4:4, 4:2:2, 4:2:0, grey, 4:1:1. The others are rare, and their
# parts differ from the whole where rows above were skipped.
_DECOMPRESS = 1
_STOP_ON_WARNING, _SUBSAMPLING, _WIDTH, _HEIGHT, _PRECISION, _COLORSPACE = 0, 4, 5, 6, 7, 8
_YCBCR, _GREY = 1, 2
_PIXELS_RGB, _PIXELS_GREY = 0, 6
_BLOCK_WIDTH = {0: 8, 1: 16, 2: 16, 3: 8, 5: 32}
# Interpolated chroma differs at the edge of a region that is decoded alone.
_MARGIN = 2


class _Region(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ('x', 'y', 'width', 'height')]


class JpegHeader(NamedTuple):
    """What is decoded: ``width`` and ``height`` in pixels, ``channels`` (1 or 3), and the width of a block."""

    width: int
    height: int
    channels: int
    block_width: int


class TurboJPEG:
    """The decoder. Its pixels are those of Pillow, which uses the same library: accurate DCT, interpolated chroma.

    Args:
        path: of the shared library.

    Raises:
        OSError: if it cannot be loaded.
        AttributeError: if it is older than version 3.
    """

    def __init__(self, path: str) -> None:
        self._library = library = ctypes.CDLL(path)
        handle, data = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_size_t)
        for name, result, *arguments in (
                ('Init', handle, ctypes.c_int), ('Destroy', None, handle), ('Get', ctypes.c_int, handle, ctypes.c_int),
                ('Set', ctypes.c_int, handle, ctypes.c_int, ctypes.c_int),
                ('DecompressHeader', ctypes.c_int, handle, *data), ('SetCroppingRegion', ctypes.c_int, handle, _Region),
                ('Decompress8', ctypes.c_int, handle, *data, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)):
            function = getattr(library, f'tj3{name}')
            function.restype, function.argtypes = result, arguments
        self._local = threading.local()

    @property
    def _handle(self) -> int:
        """Of this thread. Freed only by damage: threads that decode live as long as their process."""
        if not hasattr(self._local, 'handle'):
            self._local.handle = self._library.tj3Init(_DECOMPRESS)
            self._library.tj3Set(self._local.handle, _STOP_ON_WARNING, 1)
        return self._local.handle

    def _drop_handle(self) -> None:
        """Frees the handle: after a damaged header it stays in the middle of that and refuses every other file."""
        self._library.tj3Destroy(self._local.handle)
        del self._local.handle

    def header(self, data: bytes) -> JpegHeader | None:
        """Reads the header; None for what is no grey or YCbCr JPEG of 8 bits that this library can take apart."""
        handle, get = self._handle, self._library.tj3Get
        self._library.tj3SetCroppingRegion(handle, _Region())  # else the one before is checked against this picture
        if self._library.tj3DecompressHeader(handle, data, len(data)):
            self._drop_handle()
            return None
        colours, subsampling = get(handle, _COLORSPACE), get(handle, _SUBSAMPLING)
        if colours not in (_YCBCR, _GREY) or subsampling not in _BLOCK_WIDTH or get(handle, _PRECISION) != 8:
            return None
        return JpegHeader(get(handle, _WIDTH), get(handle, _HEIGHT), 1 if colours == _GREY else 3,
                          _BLOCK_WIDTH[subsampling])

    def decode(self, data: bytes, header: JpegHeader, box: tuple[int, int, int, int], channels: int
               ) -> np.ndarray | None:
        """The pixels of ``box`` (left, top, right, bottom) as uint8 (h, w, channels); None if the file is damaged.

        Damage below the box is not seen.
        """
        left, top, right, bottom = box
        x = max(left - _MARGIN, 0) // header.block_width * header.block_width
        y = max(top - _MARGIN, 0)
        width, height = min(right + _MARGIN, header.width) - x, min(bottom + _MARGIN, header.height) - y
        pixels = np.empty((height, width, channels), np.uint8)
        handle, library = self._handle, self._library
        library.tj3SetCroppingRegion(handle, _Region())
        if (library.tj3DecompressHeader(handle, data, len(data))
                or library.tj3SetCroppingRegion(handle, _Region(x, y, width, height))
                or library.tj3Decompress8(handle, data, len(data), pixels.ctypes.data, 0,
                                          _PIXELS_RGB if channels == 3 else _PIXELS_GREY)):
            self._drop_handle()
            return None
        return pixels[top - y:bottom - y, left - x:right - x]


@cache
def turbojpeg() -> TurboJPEG | None:
    """The library of the package ``turbojpeg``, or the system's; None if there is none, or none of version 3."""
    spec = find_spec('turbojpeg')
    bundled = Path(spec.origin).parent.glob('turbojpeg.libs/*turbojpeg*') if spec and spec.origin else ()
    for path in (*map(str, bundled), find_library('turbojpeg')):
        try:
            if path:
                return TurboJPEG(path)
        except (OSError, AttributeError):
            continue
    return None
