"""JPEGs that loader workers leave encoded, and that the GPU decodes, crops and resizes a batch at a time."""

from collections.abc import Iterator, Sequence
from io import BytesIO
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, UntypedStorage
from torch.nn.functional import interpolate
from torch.utils.data import get_worker_info
from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg

from .image_io import ImageReadError, decode_image
from .picture import Box, JpegPicture, Picture, jpeg_segments, resize_fast

# Of a frame header; C4, C8 and CC are none.
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_BASELINE = 0xC0
# PyTorch's CUDA kernel keeps the weights of an output pixel in shared memory, 48 KB of which are for 45 times.
_LARGEST_REDUCTION = 32
_DECODED_AT_ONCE = 2**28  # bytes


def why_not_on_gpu() -> str | None:
    """Why torchvision cannot decode JPEGs on the current GPU, or None if it can. Not for workers: it starts CUDA."""
    if not torch.cuda.is_available():
        return 'no GPU'
    try:
        device = torch.device('cuda', torch.cuda.current_device())  # torchvision makes a decoder for each way to say it
        decode_jpeg(encode_jpeg(torch.zeros(3, 16, 16, dtype=torch.uint8)), device=device)
        return None
    except RuntimeError as error:
        return str(error).partition('\n')[0]


class EncodedCrop(Picture):
    """A resized, perhaps mirrored box of a JPEG that is left to the GPU; whoever asks for pixels has them made here.

    Args:
        jpeg: the file.
        box: (left, top, right, bottom).
        size: (h, w) that the box is resized to.
        flip: whether the result is mirrored left and right.
    """

    def __init__(self, jpeg: JpegPicture, box: Box, size: tuple[int, int], flip: bool = False) -> None:
        self.jpeg, self.box, self.shape, self.flip = jpeg, box, (jpeg.channels, *size), flip

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the result."""
        return self.shape[:0:-1]

    def pixels(self, box: Box | None = None) -> np.ndarray:
        """See :meth:`Picture.pixels`."""
        left, top, right, bottom = box or (0, 0, *self.size)
        pixels = resize_fast(self.jpeg.pixels(self.box), self.shape[1:])
        return (pixels[:, ::-1] if self.flip else pixels)[top:bottom, left:right]

    def flipped(self) -> 'EncodedCrop':
        """The same, mirrored left and right."""
        return EncodedCrop(self.jpeg, self.box, self.shape[1:], not self.flip)


class EncodedPicture(Picture):
    """A JPEG of which a resized box is an :class:`EncodedCrop`, but for one that is made very much smaller."""

    def __init__(self, jpeg: JpegPicture) -> None:
        self.jpeg = jpeg

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.jpeg.size

    def pixels(self, box: Box | None = None) -> np.ndarray:
        """See :meth:`Picture.pixels`."""
        return self.jpeg.pixels(box)

    def resized(self, size: tuple[int, int], box: Box | None = None) -> EncodedCrop | np.ndarray:
        """See :meth:`Picture.resized`."""
        left, top, right, bottom = box = box or (0, 0, *self.size)
        if max((bottom - top) / size[0], (right - left) / size[1]) > _LARGEST_REDUCTION:
            return self.jpeg.resized(size, box)
        return EncodedCrop(self.jpeg, box, size)


def left_to_gpu(picture: Picture) -> Picture:
    """An :class:`EncodedPicture` for a baseline JPEG, which the GPU's engine decodes; ``picture`` itself for others."""
    # Without TurboJPEG it is not known whether three colours are YCbCr, as which the GPU would take them.
    plain = isinstance(picture, JpegPicture) and picture.header and is_baseline(picture.data)
    return EncodedPicture(picture) if plain else picture


def is_baseline(data: bytes) -> bool:
    """Whether a JPEG is of the baseline process, by its frame header (ITU-T T.81, table B.1)."""
    return next((marker for marker, _ in jpeg_segments(data) if marker in _FRAMES), None) == _BASELINE


def shared_empty(shape: Sequence[int], dtype: torch.dtype = torch.uint8) -> Tensor:
    """An empty tensor; in a loader worker in memory that the training process reads, so that it is not copied."""
    size = prod(shape) * dtype.itemsize
    if get_worker_info() is None or not size:
        return torch.empty(*shape, dtype=dtype)
    return torch.empty(0, dtype=dtype).set_(UntypedStorage._new_shared(size), 0, tuple(shape))


class _Crop(NamedTuple):
    """Where a file is in ``files`` (bytes) and what becomes of it."""

    position: int  # in the batch
    start: int
    end: int
    size: tuple[int, int]
    box: Box
    flip: bool
    name: str


class EncodedImages:
    """The images of a batch, most of them still encoded: two tensors, whatever their number.

    Args:
        inputs: of each image an :class:`EncodedCrop` or, decoded, uint8 (C, h, w).

    Raises:
        ValueError: if they differ in shape.
    """

    def __init__(self, inputs: Sequence[EncodedCrop | Tensor]) -> None:
        shapes = {tuple(image.shape) for image in inputs}
        if len(shapes) > 1:
            raise ValueError(f'the images of a batch differ in shape: {sorted(shapes)}; crop or resize to one size')
        self.shape, = shapes
        self.crops: list[_Crop] = []
        self.files = shared_empty([sum(len(image.jpeg.data) for image in inputs if isinstance(image, EncodedCrop))])
        self.decoded_positions = [i for i, image in enumerate(inputs) if isinstance(image, Tensor)]
        self.decoded = shared_empty((len(self.decoded_positions), *self.shape))
        end = 0
        for position, image in enumerate(inputs):
            if isinstance(image, EncodedCrop):
                start, end = end, end + len(image.jpeg.data)
                self.files.numpy()[start:end] = np.frombuffer(image.jpeg.data, np.uint8)
                self.crops.append(_Crop(position, start, end, image.jpeg.size, image.box, image.flip, image.jpeg.name))
            else:
                self.decoded[position - len(self.crops)].copy_(image)

    def __len__(self) -> int:
        return len(self.crops) + len(self.decoded)

    def pin_memory(self) -> 'EncodedImages':
        """Pin what is copied to the GPU; files are read by the host."""
        if self.decoded_positions:
            self.decoded = self.decoded.pin_memory()
        return self

    def decode(self, device: torch.device | str) -> tuple[Tensor, dict[int, ImageReadError]]:
        """Decode, crop, resize and flip.

        On a GPU the host waits for the current stream, so let that be one on which nothing else is going on.

        Args:
            device: where; on the CPU torchvision decodes likewise.

        Returns:
            uint8 (B, C, h, w), and for each position whose file cannot be decoded the reason. The first good image
            stands there.

        Raises:
            ImageReadError: if none can be decoded.
        """
        device = torch.device(device)
        images = torch.empty(len(self), *self.shape, dtype=torch.uint8, device=device)
        if self.decoded_positions:
            images.index_copy_(0, _to(device, self.decoded_positions), self.decoded.to(device, non_blocking=True))
        bad = {}
        for crops in self._chunks():
            found = _decode([self.files[crop.start:crop.end] for crop in crops], self.shape[0], device)
            bad |= {crop.position: ImageReadError(f'cannot read the image {crop.name}: {picture}')
                    for crop, picture in zip(crops, found, strict=True) if isinstance(picture, Exception)}
            good = [(crop, picture) for crop, picture in zip(crops, found, strict=True) if crop.position not in bad]
            if not good:
                continue
            resized = torch.cat([_resize(picture, crop.box, self.shape[1:]) for crop, picture in good])
            resized = resized.round_().clamp_(0, 255).byte()
            flips = _to(device, [crop.flip for crop, _ in good])[:, None, None, None]
            images.index_copy_(0, _to(device, [crop.position for crop, _ in good]),
                               torch.where(flips, resized.flip(3), resized))
        if len(bad) == len(self):
            raise next(iter(bad.values()))
        stand_in = next(i for i in range(len(self)) if i not in bad)
        for position in bad:
            images[position] = images[stand_in]
        return images, bad

    def _chunks(self) -> Iterator[list[_Crop]]:
        """The crops, in groups whose decoded pictures need not too much memory."""
        chunk, size = [], 0
        for crop in self.crops:
            bytes_ = self.shape[0] * crop.size[0] * crop.size[1]
            if chunk and size + bytes_ > _DECODED_AT_ONCE:
                yield chunk
                chunk, size = [], 0
            chunk.append(crop)
            size += bytes_
        if chunk:
            yield chunk


def _to(device: torch.device, values: list) -> Tensor:
    return torch.tensor(values).to(device, non_blocking=True)


def _resize(picture: Tensor, box: Box, size: tuple[int, int]) -> Tensor:
    """As :func:`~.picture.resize_fast` before rounding: a box of uint8 (C, H, W) to float32 (1, C, h, w)."""
    left, top, right, bottom = box
    return interpolate(picture[None, :, top:bottom, left:right].float(), size, mode='bicubic', antialias=True)


def _decode(files: list[Tensor], channels: int, device: torch.device) -> list[Tensor | Exception]:
    """The pictures of JPEGs, uint8 (C, H, W); those that torchvision refuses are decoded by Pillow, if it can."""
    if device.type == 'cuda':
        # torchvision takes memory that was freed on this stream, and the engine fills it at once, whatever is still to
        # run on the stream (pytorch/vision#9606); an event, since a graph's warm-up forbids `synchronize` of a stream.
        torch.cuda.current_stream(device).record_event().synchronize()
    try:
        return decode_jpeg(files, ImageReadMode.RGB if channels == 3 else ImageReadMode.GRAY, device=device)
    except RuntimeError as error:
        if 'out of memory' in str(error):
            raise
        if len(files) > 1:  # it does not say which
            half = len(files) // 2
            return _decode(files[:half], channels, device) + _decode(files[half:], channels, device)
        return [_decode_by_pillow(files[0], channels, device)]


def _decode_by_pillow(file: Tensor, channels: int, device: torch.device) -> Tensor | Exception:
    try:
        image: Image.Image = decode_image(BytesIO(file.numpy().tobytes()), 'a JPEG', channels)
    except ImageReadError as error:
        return error.__cause__ or error
    pixels = np.array(image).reshape(image.height, image.width, channels)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().to(device, non_blocking=True)
