"""Images without labels, for pretraining."""

import math
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import accumulate, chain, islice
from typing import Any

import numpy as np
from mmengine.dataset import Compose
from mmengine.logging import print_log
from torch.utils.data import Dataset

from mae_plugin.registry import DATASETS

from .batch import Batch
from .image_io import ImageReadError
from .image_sources import Mixture, Source, open_source
from .picture import Picture
from .reader import Reader
from .sample_key import SampleKey, generator
from .storage import Storage
from .store import open_store

_PROBED = 16
_IN_A_ROW = 50


def normalized(extensions: Iterable[str]) -> set[str]:
    """Extensions in lower case, with their dot."""
    return {f'.{extension.lstrip(".").lower()}' for extension in extensions}


@DATASETS.register_module()
class UnlabelledImages(Dataset):
    """Images of a folder of any depth, of a list, of tars or a zip, here or on a server, read in place.

    A sample is what ``pipeline`` makes of ``dict(img, img_path, ori_shape, sample_key, bad_images)``: a
    :class:`~.picture.Picture`, its path, its (height, width), the :class:`SampleKey` that all random choices are to be
    drawn from, and, if the image of that key could not be read, (path, reason) of each that this one stands for.

    An image that cannot be read is replaced by another, which is a function of the key, as all else. Where the crop of
    a file decides what is decoded (JPEG), so it does what damage is found. For damage that only the decoder of the GPU
    finds (``mode='device'``) the first good image of the batch stands in.

    With ``holdout`` an image belongs to the split ``val`` if a hash of its name (the path below ``data_root``, the line
    of a list, the member of an archive) is in the lowest ``holdout`` of all hash values, else to ``train``. So the two
    never overlap, and images that are added move no other. With two images or more neither is empty: the least hash
    is always in ``val``, the greatest in ``train``.

    Args:
        data_root: folder, ``.txt`` list with one path a line, uncompressed tar or a pattern for several, or zip; a URL
            that fsspec knows; or a list of such sources.
        pipeline: transforms, or configs of them.
        data_prefix: folder that the paths of a list are relative to; by default the list's own.
        extensions: extensions of the files to take from a folder or an archive, in any case; None for all that
            ``mode`` reads.
        channels: 3 for RGB, 1 for grey; with mode ``'array'`` any number.
        holdout: share of the images, in [0, 1), that is held out for validation.
        split: ``'train'`` or ``'val'``.
        max_images: take only so many of the split, chosen by the same hash, thus from all over it.
        mode: how the pixels are made, see ``docs/data.md``. ``'exact'``: those of Pillow, bit for bit. ``'fast'``:
            JPEGs are resized by PyTorch, at most a level beside in the mean. ``'cached'``: as ``'fast'`` from what a
            store holds. ``'device'``: baseline JPEGs are left to the data preprocessor, which has the GPU decode and
            resize them, see ``docs/speed.md``; the rest as by ``'fast'``, and all of them where no GPU can.
            ``'array'``: the numbers of the file as they are, in float32, see ``docs/channels.md``.
        weights: how often the images of each of several sources are drawn, in proportion, see ``KeyedSampler``; by
            default every image once an epoch.
        storage: arguments of :class:`~.storage.Storage`: time limit, tries and fsspec's options.
        cache: for ``'cached'``, the store: a folder that ``tools/cache_images.py`` made of ``data_root``, which then
            may be None, or gone; for several sources a list of them.
        repeats: crops of each decoded image (repeated augmentation; Hoffer et al., 2020), each in another batch, by
            ``KeyedSampler`` and ``KeyedIterTrainLoop``; not with mode ``'device'``.
        repeat_distance: samples of all processes between two crops of an image; as many times ``repeats - 1`` crops lie
            in the memory of the workers.
        arrays: for ``'array'``, the ``bands`` and ``nodata`` of :class:`~.arrays.ArrayReader`, in a dict.

    Raises:
        FileNotFoundError: if ``data_root``, or a file of the list, does not exist.
        ValueError: if there is no image, if none of the first 16 can be decoded, or if an argument is out of range.
        ConnectionError: if a server could not be read, as often as it was tried.
        ImportError: if the package for a protocol or a format is not installed.
    """

    def __init__(self, data_root: str | Sequence[str] | None, pipeline: Sequence[Any], data_prefix: str | None = None,
                 extensions: Sequence[str] | None = None, channels: int = 3, holdout: float = 0.0, split: str = 'train',
                 max_images: int | None = None, mode: str = 'exact', weights: Sequence[float] | None = None,
                 storage: Mapping[str, Any] | None = None, cache: str | Sequence[str] | None = None, repeats: int = 1,
                 repeat_distance: int = 32768, arrays: Mapping[str, Any] | None = None) -> None:
        self.reader = Reader(mode, channels, arrays)
        if (mode == 'cached') != (cache is not None):
            raise ValueError(f"UnlabelledImages: mode={mode!r} with cache={cache!r}: mode='cached' needs as "
                             'cache the folder that tools/cache_images.py made, the other modes have none')
        if not 0 <= holdout < 1:
            raise ValueError(f'UnlabelledImages: holdout={holdout!r} is not in [0, 1)')
        if split not in ('train', 'val'):
            raise ValueError(f"UnlabelledImages: split={split!r} is neither 'train' nor 'val'")
        if split == 'val' and not holdout:
            raise ValueError("UnlabelledImages: split='val' needs a holdout, such as 0.01")
        if max_images is not None and max_images < 1:
            raise ValueError(f'UnlabelledImages: max_images={max_images!r} is not at least 1')
        if repeats < 1 or repeat_distance < 1:
            raise ValueError(f'UnlabelledImages: repeats={repeats!r} and repeat_distance={repeat_distance!r} are not '
                             'both at least 1')
        if repeats > 1 and split == 'val':
            raise ValueError(f"UnlabelledImages: repeats={repeats} goes with split='train'; in validation each image "
                             'is seen once')
        if repeats > 1 and mode == 'device':
            raise ValueError(f"UnlabelledImages: repeats={repeats} saves nothing with mode='device', which has the GPU "
                             "decode each crop on its own: use mode='fast'")
        self.repeats = repeats
        self.repeat_distance = repeat_distance
        self.crops_to_hold = 0  # in each worker; the loop sets it where crops are asked of the worker that made them
        self._held: dict[SampleKey, Any] = {}
        self.data_root = data_root
        self.cache = cache
        extensions = normalized(self.reader.extensions if extensions is None else extensions)
        self.source = self._open_sources(extensions, data_prefix, weights, storage or {})
        self._numbers = self._choose(holdout, split, max_images)
        self.mixture = self._mix(weights)
        self.pipeline = Compose(pipeline)
        self._probe()
        part = f'{split} split of ' if holdout else ''
        stores = getattr(self.source, 'sources', [self.source]) if cache else ()
        how = f"mode 'cached', {'; '.join(store.describe() for store in stores)}" if cache else self.reader.describe()
        print_log(f'UnlabelledImages: {len(self)} images, {part}{data_root or cache}; {how}', logger='current')

    def _open_sources(self, extensions: set[str], data_prefix: str | None, weights: Sequence[float] | None,
                      storage: Mapping[str, Any]) -> Source:
        several = isinstance(self.cache if self.data_root is None else self.data_root, list | tuple)
        roots, caches = ([*each] if isinstance(each, list | tuple) else [each] for each in (self.data_root, self.cache))
        roots = [None] * len(caches) if self.data_root is None else roots
        if not roots:
            raise ValueError('UnlabelledImages: data_root=[] names no source')
        if weights is not None and not (
                several and len(weights) == len(roots) and all(0 <= weight < math.inf for weight in weights)
                and sum(weights)):
            raise ValueError(f'UnlabelledImages: weights={weights!r} has to be a number of at least 0 for each of the '
                             f'sources in data_root={self.data_root!r}, and one above 0')
        unknown = set(storage) - {'timeout', 'tries', 'options'}
        if unknown:
            raise ValueError(f'UnlabelledImages: storage has {", ".join(sorted(unknown))!r}, but knows only timeout, '
                             'tries and options')
        if self.cache is None:
            sources = [open_source(root, extensions, data_prefix, Storage(**storage)) for root in roots]
        else:
            if len(roots) != len(caches):
                raise ValueError(f'UnlabelledImages: cache={self.cache!r} has to name a store for each of the '
                                 f'sources in data_root={self.data_root!r}')
            sources = [open_store(cache, root, extensions, data_prefix, self.reader.channels, Storage(**storage))
                       for cache, root in zip(caches, roots, strict=True)]
        return Mixture(sources) if several else sources[0]

    def _mix(self, weights: Sequence[float] | None) -> list[tuple[int, float]] | None:
        """What ``KeyedSampler`` mixes by: number of images and weight of each source, in the order of the indices."""
        if weights is None:
            return None
        sizes = np.diff(np.searchsorted(self._numbers, self.source.ends), prepend=0).tolist()
        for source, size, weight in zip(self.source.sources, sizes, weights, strict=True):
            if weight and not size:
                raise ValueError(f'UnlabelledImages: weights={weights!r} asks for images of {source.root!r}, but '
                                 'holdout or max_images leave it none in this split')
        return list(zip(sizes, weights, strict=True))

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
        indices = range(min(_PROBED, len(self)))
        for index, encoded in zip(indices, self._read(indices), strict=True):
            try:
                self._open(index, encoded).pixels()
                return
            except ImageReadError as error:
                first = first or error
        raise ValueError(f'UnlabelledImages: data_root={self.data_root!r} has {len(self)} files that are named as '
                         f'images, but none of the first {min(_PROBED, len(self))} can be read: {first}') from first

    @property
    def metainfo(self) -> dict:
        """What MMEngine stores in a checkpoint, and compares, with a warning, when it resumes."""
        mixture = dict(mixture=self.mixture) if self.mixture else {}
        repeated = dict(repeats=self.repeats, repeat_distance=self.repeat_distance) if self.repeats > 1 else {}
        return dict(num_images=len(self), **mixture, **repeated)

    def __len__(self) -> int:
        return len(self._numbers)

    def path(self, index: int) -> str:
        """Path of an image; that of an archive's member follows the archive's after ``!/``."""
        return self.source.path(self._numbers[index])

    def name(self, index: int) -> str:
        """Path of an image below ``data_root``, or that of an archive's member in it; of a list as its line has it."""
        return os.fsdecode(self.source.names[self._numbers[index]])

    def read(self, index: int) -> Picture:
        """Reads an image; a JPEG is decoded when its pixels are asked for.

        Raises:
            ImageReadError: whatever the reason, which it names, with the file.
        """
        encoded, = self._read([index])
        return self._open(index, encoded)

    def __getitem__(self, key: int | SampleKey) -> Any:
        """Makes a sample: of an epoch of a run for a :class:`SampleKey`, always the same one for an index.

        Raises:
            ImageReadError: if neither the image nor any of 49 others can be read.
        """
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int | SampleKey]) -> Batch:
        """Makes the samples of a batch: what PyTorch's loaders ask for."""
        keys = [SampleKey.of(key) for key in keys]
        batch = Batch(len(keys))
        held = {key: self._held.pop(key) for key in keys if key in self._held}
        encoded = iter(self._read([key.index for key in keys if key not in held]))
        for key in keys:
            batch.append(held[key] if key in held else self._sample(key, next(encoded)))
        return batch

    def _read(self, indices: Sequence[int]) -> Iterable[bytes | Picture | Exception]:
        """The files of some images, or what a store has of them, or why one cannot be read."""
        return self.source.read_many([self._numbers[index] for index in indices])

    def _open(self, index: int, encoded: bytes | Picture | Exception) -> Picture:
        path = self.path(index)
        if isinstance(encoded, Picture):
            return encoded
        if isinstance(encoded, ImageReadError):  # of a store
            raise encoded
        if isinstance(encoded, Exception):
            raise ImageReadError(f'cannot read the image {path}: {encoded} ({type(encoded).__name__})') from encoded
        return self.reader.open(encoded, path)

    def _sample(self, key: SampleKey, first: bytes | Picture | Exception) -> Any:
        """The sample of a key, made from the first image of :meth:`_candidates` that can be read."""
        bad_images = []
        for index, encoded in chain([(key.index, first)], self._replacements(key)):
            try:
                picture = self._open(index, encoded)
                results = dict(img=picture, img_path=self.path(index), img_name=self.name(index),
                               ori_shape=picture.size[::-1], sample_key=key, bad_images=tuple(bad_images))
                return self.pipeline(results) if self.repeats == 1 else self._repeated(results)
            except ImageReadError as error:
                bad_images.append((self.path(index), str(error)))
        raise ImageReadError(f'{_IN_A_ROW} images in a row of data_root={self.data_root!r} could not be read; '
                             f'has it vanished? The last: {bad_images[-1][1]}')

    def _replacements(self, key: SampleKey) -> Iterator[tuple[int, bytes | Exception]]:
        """The candidates but the first, with their files: one, then two, four ... are read at once.

        So it soon shows that a server is gone, though each of its images takes the whole time limit.
        """
        candidates = islice(self._candidates(key), 1, _IN_A_ROW)
        size = 1
        while indices := list(islice(candidates, size)):
            yield from zip(indices, self._read(indices), strict=True)
            size *= 2

    def _repeated(self, results: dict) -> Any:
        """The sample of ``results``; those of the same image that will be asked for later are held."""
        results['img'].decode()  # whole, in every case: what damage is found depends on it
        key = results['sample_key']
        end = (key.epoch // self.repeats + 1) * self.repeats if self.crops_to_hold else key.epoch + 1
        for epoch in range(key.epoch + 1, end):
            later = key._replace(epoch=epoch)
            self._held[later] = self.pipeline(dict(results, sample_key=later, decoded=False))
        while len(self._held) > self.crops_to_hold:  # a stream that was left
            del self._held[next(iter(self._held))]
        return self.pipeline(dict(results, decoded=True))

    def _candidates(self, key: SampleKey) -> Iterator[int]:
        """Indices of the image of a key, then of those that stand for it: others for each epoch and seed.

        Of sources mixed by weight they are of the same one.
        """
        yield key.index
        random = generator(key._replace(epoch=key.epoch // self.repeats), 'replacement')  # the same for its repeats
        first, size = 0, len(self)
        if self.mixture:
            ends = list(accumulate(size for size, _ in self.mixture))
            source = bisect_right(ends, key.index)
            first, size = ends[source] - self.mixture[source][0], self.mixture[source][0]
        while True:
            yield first + int(random.integers(size))
