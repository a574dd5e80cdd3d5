"""Images without labels, for pretraining."""

from collections.abc import Sequence
from hashlib import blake2b
from io import BytesIO
from typing import Any

import numpy as np
from mmengine.dataset import Compose
from mmengine.logging import print_log
from PIL import Image
from torch.utils.data import Dataset

from mae_plugin.registry import DATASETS

from .image_io import MODES, ImageReadError, decode_image
from .image_sources import open_source
from .sample_key import SampleKey

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')
_PROBED = 16


@DATASETS.register_module()
class UnlabelledImages(Dataset):
    """Images of a folder of any depth, of a list, a tar or a zip, read in place.

    A sample is what ``pipeline`` makes of ``dict(img, img_path, ori_shape, sample_key)``: a PIL picture, its path, its
    (height, width), and the :class:`SampleKey` that all random choices are to be drawn from.

    With ``holdout`` an image belongs to the split ``val`` if a hash of its name (the path below ``data_root``, the line
    of a list, the member of an archive) is in the lowest ``holdout`` of all hash values, else to ``train``. So the two
    never overlap, and images that are added move no other. With two images or more neither is empty: the least hash
    is always in ``val``, the greatest in ``train``.

    Args:
        data_root: folder, ``.txt`` list with one path a line, uncompressed tar, or zip.
        pipeline: transforms, or configs of them.
        data_prefix: folder that the paths of a list are relative to; by default the list's own.
        extensions: extensions of the files to take from a folder or an archive, in any case.
        channels: 3 for RGB, 1 for grey.
        holdout: share of the images, in [0, 1), that is held out for validation.
        split: ``'train'`` or ``'val'``.
        max_images: take only so many of the split, chosen by the same hash, thus from all over it.

    Raises:
        FileNotFoundError: if ``data_root``, or a file of the list, does not exist.
        ValueError: if there is no image, if none of the first 16 can be decoded, or if an argument is out of range.
    """

    def __init__(self, data_root: str, pipeline: Sequence[Any], data_prefix: str | None = None,
                 extensions: Sequence[str] = EXTENSIONS, channels: int = 3, holdout: float = 0.0, split: str = 'train',
                 max_images: int | None = None) -> None:
        if channels not in MODES:
            raise ValueError(f'UnlabelledImages: channels={channels!r} is not one of {sorted(MODES)}')
        if not 0 <= holdout < 1:
            raise ValueError(f'UnlabelledImages: holdout={holdout!r} is not in [0, 1)')
        if split not in ('train', 'val'):
            raise ValueError(f"UnlabelledImages: split={split!r} is neither 'train' nor 'val'")
        if split == 'val' and not holdout:
            raise ValueError("UnlabelledImages: split='val' needs a holdout, such as 0.01")
        if max_images is not None and max_images < 1:
            raise ValueError(f'UnlabelledImages: max_images={max_images!r} is not at least 1')
        self.data_root = data_root
        self.channels = channels
        accepted = {f'.{extension.lstrip(".").lower()}' for extension in extensions}
        self.source = open_source(data_root, accepted, data_prefix)
        self._numbers = self._choose(holdout, split, max_images)
        self.pipeline = Compose(pipeline)
        self._probe()
        part = f'{split} split of ' if holdout else ''
        print_log(f'UnlabelledImages: {len(self)} images, {part}{data_root}', logger='current')

    def _choose(self, holdout: float, split: str, max_images: int | None) -> np.ndarray:
        """Numbers within the source of the images to use, rising, (n,) int64."""
        names = self.source.names
        numbers = np.arange(len(names))
        if not holdout and max_images is None:
            return numbers
        hashes = b''.join(blake2b(name, digest_size=8).digest() for name in names)
        scores = np.frombuffer(hashes, '<u8')
        if holdout:
            if len(names) < 2:
                raise ValueError(f'UnlabelledImages: holdout={holdout} cannot split the one image of '
                                 f'data_root={self.data_root!r}')
            held_out = scores < np.uint64(holdout * 2**64)
            held_out[scores.argmin()] = True
            held_out[scores.argmax()] = False
            numbers = numbers[held_out == (split == 'val')]
        if max_images is not None:
            numbers = np.sort(numbers[np.argsort(scores[numbers], kind='stable')[:max_images]])
        return numbers

    def _probe(self) -> None:
        """Reads images until one is whole: an error now, naming the first, is better than one from a worker."""
        first = None
        for index in range(min(_PROBED, len(self))):
            try:
                self.read(index)
                return
            except ImageReadError as error:
                first = first or error
        raise ValueError(f'UnlabelledImages: data_root={self.data_root!r} has {len(self)} files that are named as '
                         f'images, but none of the first {min(_PROBED, len(self))} is one: {first}') from first

    @property
    def metainfo(self) -> dict:
        """What MMEngine stores in a checkpoint, and compares, with a warning, when it resumes."""
        return dict(num_images=len(self))

    def __len__(self) -> int:
        return len(self._numbers)

    def path(self, index: int) -> str:
        """Path of an image; that of an archive's member follows the archive's after ``!/``."""
        return self.source.path(self._numbers[index])

    def read(self, index: int) -> Image.Image:
        """Reads and decodes an image.

        Raises:
            ImageReadError: whatever the reason, which it names, with the file.
        """
        path = self.path(index)
        try:
            data = self.source.read(self._numbers[index])
        except Exception as error:
            raise ImageReadError(f'cannot read the image {path}: {error} ({type(error).__name__})') from error
        return decode_image(BytesIO(data), path, self.channels)

    def __getitem__(self, key: int | SampleKey) -> Any:
        """Makes a sample: of an epoch of a run for a :class:`SampleKey`, always the same one for an index."""
        key = SampleKey.of(key)
        image = self.read(key.index)
        return self.pipeline(
            dict(img=image, img_path=self.path(key.index), ori_shape=(image.height, image.width), sample_key=key))
