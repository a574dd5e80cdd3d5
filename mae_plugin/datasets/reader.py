"""How the files of a data set become pictures."""

from collections.abc import Mapping
from typing import Any

from .arrays import array_reader
from .encoded import left_to_gpu, why_not_on_gpu
from .image_io import MODES
from .picture import Picture, open_picture
from .turbojpeg import turbojpeg

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')
_MODES = ('exact', 'fast', 'cached', 'device', 'array')


class Reader:
    """Opens files by one of the modes of :class:`~.unlabelled.UnlabelledImages`.

    Args:
        mode: see there.
        channels: see there.
        arrays: see there.

    Attributes:
        mode: ``'fast'`` in place of ``'device'``, once :meth:`describe` found no such device.
        extensions: of the files that are taken for images.

    Raises:
        ValueError: if an argument is out of range, or they do not go together.
    """

    def __init__(self, mode: str, channels: int, arrays: Mapping[str, Any] | None = None) -> None:
        if mode not in _MODES:
            raise ValueError(f'UnlabelledImages: mode={mode!r} is not one of {", ".join(map(repr, _MODES))}')
        if mode != 'array' and channels not in MODES:
            raise ValueError(f'UnlabelledImages: channels={channels!r} is not one of {sorted(MODES)}, of which the '
                             f"8-bit pictures of mode={mode!r} are: set mode='array'")
        if mode != 'array' and arrays is not None:
            raise ValueError(f"UnlabelledImages: arrays={dict(arrays)!r} goes with mode='array', not mode={mode!r}")
        self.mode, self.channels = mode, channels
        self.arrays = array_reader(channels, arrays) if mode == 'array' else None
        self.extensions = EXTENSIONS + (('.npy', '.npz') if mode == 'array' else ())

    def open(self, data: bytes, path: str) -> Picture:
        """The picture of a file.

        Raises:
            ImageReadError: if it cannot be read.
        """
        if self.arrays:
            return self.arrays.open(data, path)
        picture = open_picture(data, path, self.channels, self.mode != 'exact')
        return left_to_gpu(picture) if self.mode == 'device' else picture

    def describe(self) -> str:
        """How the images will be decoded, for the log."""
        text = f'mode {self.mode!r}'
        if self.mode == 'array':
            return f'{text}, the numbers of the files, in {self.channels} channels'
        if self.mode == 'device':
            reason = why_not_on_gpu()
            if not reason:
                return f'{text}, JPEGs are decoded by the GPU (nvJPEG)'
            self.mode = 'fast'
            text = f"JPEGs are decoded in the workers, mode 'fast' instead of 'device' ({reason})"
        return f'{text}, {"parts of JPEGs by TurboJPEG" if turbojpeg() else "no TurboJPEG, so JPEGs are decoded whole"}'
