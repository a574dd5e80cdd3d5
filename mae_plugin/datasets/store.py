"""A store of decoded or re-encoded images: built once by ``tools/cache_images.py``, read by ``mode='cached'``.

A folder with ``meta.json`` (what it was built from, and how), shards of images one after the other, ``bad_images.csv``
and, once all of it is there, ``index.npz``. Its images are those of the source in the same order, so splits and the
stream are the same; one that could not be read keeps its place, with the reason, and is replaced as it would be there.
"""

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from mmengine.logging import print_log
from PIL import Image
from torch.multiprocessing import start_processes

from .image_io import ImageReadError
from .image_sources import open_source
from .index_cache import Strings
from .picture import ArrayPicture, JpegPicture, Picture, open_picture, resize_exact
from .storage import Storage, is_url, only

_VERSION = 1  # of the format: raise it when that changes
_META, _INDEX, _BAD = 'meta.json', 'index.npz', 'bad_images.csv'
_SHARD_BYTES = 2**30
_MOST_SHARDS = 256  # each process keeps all of them open, and 1024 files are what most systems allow
_SAMPLED = 64  # images, for the estimate of the size
_READ_AT_ONCE = 64  # images, where they are on a server
_COMPARED = 16  # images, when a store is opened beside its source
_COLUMNS = dict(size=np.int64, height=np.int32, width=np.int32, crc=np.uint32, source_crc=np.uint32, altered=np.bool_)


class ImageStore:
    """A finished store.

    Each process maps the shards into memory as it needs them: half the time that reading takes, which copies whole rows
    and then the crop. What the system caches of them is shared by all workers, and given up where memory is short.

    Args:
        root: its folder.

    Attributes:
        meta: content of ``meta.json``.
        names: the names that the source had, sorted.

    Raises:
        FileNotFoundError: if there is no store.
        ValueError: if it is not finished, damaged, or of another version.
    """

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = os.path.abspath(os.path.expanduser(root))
        self.meta = _read_meta(self.root)
        if not os.path.exists(self._file(_INDEX)):
            raise ValueError(f'cache={self.root!r} is a store that is not finished: run tools/cache_images.py as '
                             'before, and it goes on where it was')
        try:
            with np.load(self._file(_INDEX)) as file:
                index = dict(file)
            self.names = Strings(index.pop('names'), index.pop('name_ends'))
            self._reasons = dict(zip(index.pop('bad').tolist(), index.pop('reasons').tolist(), strict=True))
            self._columns = {name: index.pop(name) for name in _COLUMNS}
            if {len(self.names), *map(len, self._columns.values())} != {self.meta['images']}:
                raise ValueError('columns of different lengths')
        except Exception as error:  # NumPy, zipfile and zlib raise many types
            raise ValueError(f'cache={self.root!r}: the index of the store is damaged ({error}); delete the store and '
                             'build it anew') from error
        bounds = _bounds(self.meta)
        self._shards = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        starts = np.concatenate([[0], np.cumsum(self._columns['size'])])
        self._offsets = starts[:-1] - starts[bounds[self._shards]]
        self._check_shards(np.diff(starts[bounds]))
        self._mapped: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_mapped': {}}

    def _file(self, name: str) -> str:
        return os.path.join(self.root, name)

    def _check_shards(self, sizes: Sequence[int]) -> None:
        for shard, expected in enumerate(sizes):
            path = self._file(_shard_name(shard))
            found = os.path.getsize(path) if os.path.exists(path) else 'no'
            if found != expected:
                raise ValueError(f'cache={self.root!r} is damaged: {path} has {found} bytes instead of {expected}; '
                                 'copy the store once more, or delete it and build it anew')

    def describe(self) -> str:
        """What its pixels are, for the log."""
        meta, altered = self.meta, int(self._columns['altered'].sum())
        kind = 'stored pixels' if meta['format'] == 'raw' else 'stored JPEGs'
        if not altered:
            return f'{kind}, all as in the files they were made from'
        how = [f'shrunk to a shorter side of {meta["short_side"]}'] if meta['short_side'] else []
        how += [f'encoded anew with quality {meta["quality"]}'] if meta['format'] == 'jpeg' else []
        return f'{kind}; {altered} of {len(self.names)} images are not the original ones, but {" or ".join(how)}'

    def check(self, source: Any) -> None:
        """Compares names, and the content of a few images, with what the data root holds now.

        Raises:
            ValueError: if it is something else.
        """
        made_of = f'cache={self.root!r} was built from {self.meta["images"]} images of {self.meta["data_root"]!r}'
        remedy = 'build a new store with tools/cache_images.py, or give the right one'
        if _digest(source.names) != self.meta['names']:
            raise ValueError(f'{made_of}, but data_root={source.root!r} now holds {len(source.names)} images, and not '
                             f'all have the same names: {remedy}')
        numbers = [number for number in _spread(len(self.names), _COMPARED) if number not in self._reasons]
        for number, data in zip(numbers, source.read_many(numbers), strict=True):
            if crc32(only([data])) != self._columns['source_crc'][number]:
                raise ValueError(f'{made_of}, but {source.path(number)} is another file now: {remedy}')

    def path(self, number: int) -> str:
        """Path of an image, for people and messages."""
        return f'{self.root}!/{os.fsdecode(self.names[number])}'

    def read(self, number: int) -> Picture:
        """An image; raw pixels are read when they are asked for.

        Raises:
            ImageReadError: if the store has none of it, or it was damaged since.
            OSError: if its shard is gone.
        """
        if number in self._reasons:
            raise ImageReadError(self._reasons[number])
        size, height, width, crc, *_ = (int(column[number]) for column in self._columns.values())
        shard, start = int(self._shards[number]), int(self._offsets[number])
        if shard not in self._mapped:
            self._mapped[shard] = np.asarray(np.memmap(self._file(_shard_name(shard)), mode='r'))
        channels = self.meta['channels']
        if self.meta['format'] == 'raw':
            return ArrayPicture(np.ndarray((height, width, channels), np.uint8, self._mapped[shard], start))
        data = self._mapped[shard][start:start + size].tobytes()
        if crc32(data) != crc:
            raise ImageReadError(f'cannot read the image {self.path(number)}: its checksum is not the one in the index')
        return open_picture(data, self.path(number), channels, fast=True)

    def read_many(self, numbers: Sequence[int]) -> Iterator[Picture | Exception]:
        """The images of a batch; for one that cannot be read, the exception."""
        for number in numbers:
            try:
                yield self.read(number)
            except (ImageReadError, OSError) as error:
                yield error


def open_store(cache: str, data_root: str | None, extensions: Iterable[str], data_prefix: str | None, channels: int,
               storage: Storage) -> ImageStore:
    """Opens a store and compares it with the data set's settings and, where that is at hand, the source.

    Args:
        cache: folder of the store.
        data_root: what the store is to be made of; None, or what does not exist here, is not compared.
        extensions: see :func:`open_source`.
        data_prefix: see there.
        channels: 3 for RGB, 1 for grey.
        storage: how ``data_root`` is read.

    Raises:
        FileNotFoundError: if there is no store.
        ValueError: if it is not finished, damaged, or made with other settings or of other images.
    """
    store = ImageStore(cache)
    for name, value in dict(channels=channels, extensions=sorted(extensions)).items():
        if store.meta[name] != value:
            raise ValueError(f'{name}={value!r} does not go with cache={store.root!r}, a store made with '
                             f'{name}={store.meta[name]!r}')
    if data_root is not None:
        try:
            source = open_source(data_root, extensions, data_prefix, storage)
        except (FileNotFoundError, ConnectionError) as error:
            print_log(f'cache={store.root!r} is used unchecked, for what it was made of is not at hand: {error}',
                      logger='current')
            return store
        store.check(source)
    return store


def _digest(names: Iterable[bytes]) -> str:
    return hashlib.sha256(b'\n'.join(names)).hexdigest()


def _spread(count: int, most: int) -> list[int]:
    """At most so many numbers below ``count``, evenly spread."""
    return np.unique(np.linspace(0, count - 1, most).astype(int)).tolist()


def _bounds(meta: dict) -> np.ndarray:
    """Number of the first image of each shard, and of all images."""
    return np.arange(meta['shards'] + 1) * meta['images'] // meta['shards']


def _shard_name(shard: int) -> str:
    return f'{shard:05}.bin'


def _read_meta(root: str) -> dict:
    try:
        with open(os.path.join(root, _META)) as file:
            meta = json.load(file)
        version = meta['version']
    except FileNotFoundError as error:
        raise FileNotFoundError(f'cache={root!r} is no store of images, there is no {_META} in it; '
                                'tools/cache_images.py makes one') from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'cache={root!r}: {_META} of the store is damaged ({error}); build it anew') from error
    if version != _VERSION:
        raise ValueError(f'cache={root!r} is a store of version {version}, this is version {_VERSION}: build it anew')
    return meta


def _write(path: Path, write: Callable[[Any], Any]) -> None:
    """Lets ``write`` fill a file that appears whole or not at all."""
    temporary = path.with_name(f'{path.name}.tmp')
    try:
        with open(temporary, 'wb') as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class StoreBuilder:
    """Builds a store, or goes on with one that was interrupted.

    Args:
        data_root: as for :func:`open_source`.
        root: folder of the store; new, or one that was begun with the same arguments.
        extensions: as for :func:`open_source`.
        data_prefix: as there.
        channels: 3 for RGB, 1 for grey.
        format: ``'raw'``, pixels; or ``'jpeg'``: a plain JPEG that needs no shrinking as it is, all else encoded.
        short_side: images are shrunk (bicubic, antialiased) to have a shorter side of at most that; 0 keeps all.
        quality: of JPEGs that are encoded, in [1, 100], without chroma subsampling.
        storage: how ``data_root`` is read.

    Attributes:
        total: number of images.
        done: number of images that are in the store, or known to be bad.
        bad: number of those that cannot be read, once :meth:`build` has come to its end.
        finished: whether there is nothing left to do.

    Raises:
        FileNotFoundError: if ``data_root`` does not exist.
        ValueError: if an argument is out of range, ``root`` holds something else, or the disk is too small.
    """

    def __init__(self, data_root: str, root: str | os.PathLike, extensions: Iterable[str],
                 data_prefix: str | None = None, channels: int = 3, format: str = 'raw', short_side: int = 512,
                 quality: int = 95, storage: Storage | None = None) -> None:
        if format not in ('raw', 'jpeg'):
            raise ValueError(f"format={format!r} is neither 'raw' nor 'jpeg'")
        if short_side < 0 or not 1 <= quality <= 100:
            raise ValueError(f'short_side={short_side} is negative, or quality={quality} is not in [1, 100]')
        data_root = os.fspath(data_root)
        self.source = open_source(data_root, extensions, data_prefix, storage)
        self.root = Path(root).expanduser().absolute()
        self.total = len(self.source.names)
        self.meta = dict(
            version=_VERSION, data_root=data_root if is_url(data_root) else os.path.abspath(
                os.path.expanduser(data_root)), data_prefix=data_prefix,
            extensions=sorted(extensions), images=self.total, names=_digest(self.source.names), channels=channels,
            format=format, short_side=short_side, quality=quality if format == 'jpeg' else None)
        begun = (self.root / _META).exists()
        if begun:
            self._compare(_read_meta(str(self.root)))
        elif self.root.exists() and any(self.root.iterdir()):
            raise ValueError(f'{self.root} holds something else than a store of images: name a new folder')
        self.bad = 0
        self.finished = (self.root / _INDEX).exists()
        if self.finished:
            ImageStore(self.root).check(self.source)
        else:
            size = self._estimate()
            self.meta.setdefault('shards', int(np.clip(size // _SHARD_BYTES + 1, 1, min(_MOST_SHARDS, self.total))))
            self._check_space(size)
        if not begun:
            self.root.mkdir(parents=True, exist_ok=True)
            _write(self.root / _META, lambda file: file.write(json.dumps(self.meta, indent=1).encode()))

    def _compare(self, found: dict) -> None:
        different = ['other names of images' if name == 'names' else f'{name}={found.get(name)!r} instead of {value!r}'
                     for name, value in self.meta.items() if found.get(name) != value]
        if different:
            raise ValueError(f'{self.root} is a store made with {", ".join(different)}: name another folder, or delete '
                             'it first')
        self.meta = found

    def _estimate(self) -> float:
        """Bytes that the store will take, from a sample."""
        numbers = _spread(self.total, _SAMPLED)
        sizes = [len(stored) for stored, _, _ in map(self._make, numbers, self.source.read_many(numbers)) if stored]
        return float(np.mean(sizes or [0])) * self.total

    def _check_space(self, size: float) -> None:
        left = size * (1 - self.done / self.total)
        free = shutil.disk_usage(next(folder for folder in (self.root, *self.root.parents) if folder.exists())).free
        if left > free:
            raise ValueError(f'{self.root} would take about {left / 1e9:.3g} GB more, but only {free / 1e9:.3g} GB are '
                             f'free there: name another disk, a smaller short side (now {self.meta["short_side"]}; 0 '
                             'keeps all) or format jpeg')

    def _shards(self) -> Iterator[tuple[int, int, int]]:
        """Each shard with the numbers of its first image and of that after its last."""
        bounds = _bounds(self.meta).tolist()
        return zip(range(len(bounds)), bounds[:-1], bounds[1:], strict=False)

    def _facts(self, shard: int) -> Path:
        """What is known of the images of a shard; a shard is finished when this file is there."""
        return self.root / f'{shard:05}.npz'

    @property
    def done(self) -> int:
        """See the class."""
        return self.total if self.finished else sum(
            stop - start for shard, start, stop in self._shards() if self._facts(shard).exists())

    def build(self, workers: int, max_bad: float = 0.01, progress: Callable[[int], None] = lambda done: None) -> None:
        """Makes what is missing.

        Args:
            workers: number of processes.
            max_bad: greatest share of images, in [0, 1], that may be unreadable.
            progress: called about five times a second with the number of images that are done.

        Raises:
            ValueError: if more images are unreadable; they are listed in ``bad_images.csv`` then as well.
        """
        if self.finished:
            return
        missing = [shard for shard in self._shards() if not self._facts(shard[0]).exists()]
        context = get_context('fork')
        taken, done = context.Value('q', 0), context.Value('q', self.done)
        processes = start_processes(self._work, (missing, taken, done), min(workers, len(missing)), join=False,
                                    daemon=True, start_method='fork') if missing else None
        while processes and not processes.join(timeout=0.2):
            progress(done.value)
        progress(self.total)
        self._finish(max_bad)

    def _work(self, rank: int, missing: Sequence[tuple[int, int, int]], taken: Any, done: Any) -> None:
        """What each process does: shard after shard, each the next one that no other has taken."""
        while True:
            with taken.get_lock():
                position = taken.value
                taken.value += 1
            if position >= len(missing):
                return
            self._write_shard(*missing[position], done)

    def _write_shard(self, shard: int, start: int, stop: int, done: Any) -> None:
        facts, bad = [], []

        def write(file: Any) -> None:
            for number, data in self._read(range(start, stop)):
                stored, known, reason = self._make(number, data)
                file.write(stored)
                facts.append(known)
                if reason:
                    bad.append((number, reason))
                with done.get_lock():
                    done.value += 1

        _write(self.root / _shard_name(shard), write)
        columns = {name: np.array(column, kind) for (name, kind), column in
                   zip(_COLUMNS.items(), zip(*facts, strict=True), strict=True)}
        columns['bad'] = np.array([number for number, _ in bad], np.int64)
        columns['reasons'] = np.array([reason for _, reason in bad], str)
        _write(self._facts(shard), lambda file: np.savez(file, **columns))

    def _read(self, numbers: range) -> Iterator[tuple[int, bytes | Exception]]:
        for first in range(0, len(numbers), _READ_AT_ONCE):
            some = numbers[first:first + _READ_AT_ONCE]
            yield from zip(some, self.source.read_many(some), strict=True)

    def _make(self, number: int, data: bytes | Exception) -> tuple[bytes, tuple, str]:
        """What is stored of an image, the values of ``_COLUMNS``, and why nothing is stored, if so."""
        path, meta = self.source.path(number), self.meta
        try:
            if isinstance(data, Exception):  # of the file system or the archive
                raise ImageReadError(f'cannot read the image {path}: {data} ({type(data).__name__})') from data
            picture = open_picture(data, path, meta['channels'], fast=True)
            pixels = picture.pixels()
        except ImageReadError as error:
            return b'', (0, 0, 0, 0, 0, False), str(error)
        height, width = pixels.shape[:2]
        scale = meta['short_side'] / min(height, width) if meta['short_side'] else 1
        altered = scale < 1
        if altered:
            pixels = resize_exact(pixels, (round(height * scale), round(width * scale)))
        if meta['format'] == 'raw':
            stored = pixels.tobytes()
        elif not altered and isinstance(picture, JpegPicture):
            stored = data
        else:
            altered, stored = True, _encode(pixels, meta['quality'])
        return stored, (len(stored), *pixels.shape[:2], crc32(stored), crc32(data), altered), ''

    def _finish(self, max_bad: float) -> None:
        """Makes the index of the store from those of its shards."""
        shards = []
        for shard, _, _ in self._shards():
            with np.load(self._facts(shard)) as file:
                shards.append(dict(file))
        index = {name: np.concatenate([shard[name] for shard in shards]) for name in shards[0]}
        with open(self.root / _BAD, 'w', newline='', encoding='utf-8', errors='surrogateescape') as file:
            rows = zip(map(self.source.path, index['bad']), index['reasons'], strict=True)
            csv.writer(file).writerows([('image', 'reason'), *rows])
        self.bad = len(index['bad'])
        if self.bad > max_bad * self.total:
            raise ValueError(f'{self.bad} of {self.total} images cannot be read, more than a share of {max_bad}: see '
                             f'{self.root / _BAD}; to leave them out, run this again with a greater --max-bad')
        names = Strings.pack(list(self.source.names))
        _write(self.root / _INDEX, lambda file: np.savez(file, names=names.text, name_ends=names.ends, **index))
        for shard, _, _ in self._shards():
            self._facts(shard).unlink()
        self.finished = True


def _encode(pixels: np.ndarray, quality: int) -> bytes:
    file = BytesIO()
    picture = Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[..., 0])
    picture.save(file, 'JPEG', quality=quality, **(dict(subsampling='4:4:4') if pixels.shape[2] > 1 else {}))
    return file.getvalue()
