"""Where images without labels lie: a folder of any depth, a list of files, tars, a zip; here or on a server."""

import os
import re
import struct
import tarfile
import time
import zipfile
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from glob import glob
from io import BufferedReader
from itertools import accumulate, chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
from mmengine.logging import print_log

from .index_cache import ImageIndex, Strings, cached_index, local_marks, mark
from .storage import RemoteFile, Request, Storage, is_url, join, names_below, only, reason_of

_COMPRESSED = {b'\x1f\x8b': 'gzip', b'BZh': 'bzip2', b'\xfd7zXZ\x00': 'xz', b'\x28\xb5\x2f\xfd': 'zstd'}
_STORED, _DEFLATED = 0, 8
_READAHEAD = 2**16  # bytes of a remote tar with a header: small members beside the image come with it
_TARS_AT_ONCE = 32
_PROGRESS = 10  # seconds between two lines of the log
_BRACES = re.compile(r'\{([^{}]*)\}')


class Source:
    """Images by number.

    Args:
        root: what users call the source.
        base: what precedes a name in the path of its image.
        index: the images.
        storage: how files are read.
    """

    def __init__(self, root: str, base: str, index: ImageIndex, storage: Storage) -> None:
        self.root = root
        self.base = base
        self.names: Sequence[bytes] = index.names
        self.columns = index.columns
        self.storage = storage

    def path(self, number: int) -> str:
        """Path of an image, for people and messages."""
        return self.base + os.fsdecode(self.names[number])

    def read(self, number: int) -> bytes:
        """The encoded image."""
        return only(self.read_many([number]))

    def read_many(self, numbers: Sequence[int]) -> Iterable[bytes | Exception]:
        """The encoded images of a batch; for one that cannot be read, though tried repeatedly, the exception.

        Each is read when it is asked for, so that one is in memory, not all of a batch.
        """
        return (self.storage.attempt(self._read, number) for number in numbers)


class Files(Source):
    """Images that are files of their own."""

    def path(self, number: int) -> str:  # noqa: D102
        return os.path.join(self.base, os.fsdecode(self.names[number]))

    def _read(self, number: int) -> bytes:
        with open(self.path(number), 'rb') as file:
            return file.read()


class TarMembers(Source):
    """Images inside uncompressed tars, read in place.

    Args:
        archives: path of each tar; columns of the index are ``archive``, where there are several, ``offset``, ``size``.
    """

    def __init__(self, root: str, base: str, index: ImageIndex, storage: Storage, archives: Sequence[str]) -> None:
        super().__init__(root, base, index, storage)
        self.archives = archives
        self._opened = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_opened': None}

    def _archive(self, number: int) -> str:
        return self.archives[self.columns['archive'][number] if len(self.archives) > 1 else 0]

    def _read_at(self, archive: str, offset: int, size: int) -> bytes:
        """Bytes of an archive."""
        # pread has no file position, so workers forked after the first read may go on with the same descriptor.
        if self._opened is None:
            self._opened = lru_cache(maxsize=64)(partial(open, mode='rb', buffering=0))
        try:
            data = os.pread(self._opened(archive).fileno(), size, offset)
        except OSError:
            self._opened = None  # a stale handle stays so
            raise
        if len(data) != size:
            raise EOFError('the archive ends inside this image')
        return data

    def _read(self, number: int) -> bytes:
        offset, size = (int(self.columns[name][number]) for name in ('offset', 'size'))
        return self._read_at(self._archive(number), offset, size)


class ZipMembers(TarMembers):
    """Images inside a zip, stored or deflated, read in place and compared with their checksum."""

    def _read(self, number: int) -> bytes:
        archive = self._archive(number)
        facts = (int(self.columns[name][number]) for name in ('offset', 'size', 'method', 'crc'))
        offset, size, method, checksum = facts
        signature, name_length, extra_length = struct.unpack('<4s22xHH', self._read_at(archive, offset, 30))
        if signature != b'PK\3\4':
            raise ValueError('the archive was changed while it was in use')
        data = self._read_at(archive, offset + 30 + name_length + extra_length, size)
        if method == _DEFLATED:
            data = zlib.decompress(data, wbits=-zlib.MAX_WBITS)
        if zlib.crc32(data) != checksum:
            raise ValueError('its checksum is not the one in the archive')
        return data


class RemoteFiles(Source):
    """Images that are files of their own, of which some at least have a URL."""

    def path(self, number: int) -> str:  # noqa: D102
        name = os.fsdecode(self.names[number])
        return name if is_url(name) else os.path.join(self.base, name)

    def _request(self, number: int) -> Request:
        name = self.names[number]
        return self.path(number) if is_url(os.fsdecode(name)) else join(self.base, name), None, None

    def read_many(self, numbers: Sequence[int]) -> list[bytes | Exception]:
        """As of :class:`Source`, many at once."""
        return self.storage.read_many([self._request(number) for number in numbers])


class RemoteTarMembers(RemoteFiles, TarMembers):
    """Images inside uncompressed tars that have a URL, of which no more is fetched."""

    path = Source.path

    def _request(self, number: int) -> Request:
        offset, size = (int(self.columns[name][number]) for name in ('offset', 'size'))
        return self._archive(number), offset, offset + size


class Mixture(Source):
    """Several sources, one after the other."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = sources
        self.root = ', '.join(source.root for source in sources)
        self.ends = [*accumulate(len(source.names) for source in sources)]
        self.names = _Chained([source.names for source in sources], self.ends)

    def path(self, number: int) -> str:  # noqa: D102
        source, number = _part(self.ends, number)
        return self.sources[source].path(number)

    def read_many(self, numbers: Sequence[int]) -> Iterable[bytes | Exception]:
        """As of :class:`Source`."""
        parts = [_part(self.ends, number) for number in numbers]
        files = [iter(source.read_many([number for part, number in parts if part == which]))
                 for which, source in enumerate(self.sources)]
        return (next(files[which]) for which, _ in parts)


class _Chained(Sequence):
    """The names of several sources, uncopied."""

    def __init__(self, parts: Sequence[Sequence[bytes]], ends: Sequence[int]) -> None:
        self.parts = parts
        self.ends = ends

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, number: int) -> bytes:
        part, number = _part(self.ends, number)
        return self.parts[part][number]

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(self.parts)


def _part(ends: Sequence[int], number: int) -> tuple[int, int]:
    """Which of the parts that end at ``ends`` a number falls into, and where in it."""
    part = bisect_right(ends, number)
    return part, number - (ends[part - 1] if part else 0)


def _no_image(root: str, extensions: Iterable[str], others: Counter[str]) -> ValueError:
    kinds = ', '.join(f'{count} {kind}' for kind, count in others.most_common(8))
    return ValueError(f'data_root={root!r} holds no image among its {others.total()} files'
                      f'{f" ({kinds})" if kinds else ""}; images end in {", ".join(sorted(extensions))}')


class _OnlyTars(Exception):
    """A folder holds no image, but tars, whose names are the argument."""


class _Finder:
    """Collects the images of one source, and counts what else is there for the message when there are none.

    Args:
        root: the source.
        extensions: lower-case extensions that make a file an image.
    """

    def __init__(self, root: str, extensions: Collection[str]) -> None:
        self.root = root
        self.extensions = {os.fsencode(extension) for extension in extensions}
        self.images: dict[bytes, tuple[int, ...]] = {}
        self.others: Counter[str] = Counter()
        self.tars: list[bytes] = []

    def add(self, name: bytes, *facts: int) -> None:
        """Takes a file: an image if its extension says so, unless it is hidden or one of macOS's shadow files."""
        parts = name.split(b'/')
        extension = os.path.splitext(parts[-1])[1].lower()
        if extension == b'.tar' and not parts[-1].startswith(b'.'):
            self.tars.append(name)
        if extension not in self.extensions:
            self.others[os.fsdecode(extension) or 'without extension'] += 1
        elif any(part.startswith(b'.') or part == b'__MACOSX' for part in parts):
            self.others['hidden'] += 1
        else:
            self.images[name] = facts

    def index(self, columns: tuple[str, ...], watched: list[bytes], marks: Collection) -> ImageIndex:
        """What was found, sorted by name; ValueError if it is nothing."""
        if not self.images and self.tars:
            raise _OnlyTars(sorted(self.tars))
        if not self.images:
            raise _no_image(self.root, map(os.fsdecode, self.extensions), self.others)
        names = sorted(self.images)
        facts = np.array([self.images[name] for name in names], np.int64)
        return ImageIndex(Strings.pack(names), Strings.pack(watched), np.array(marks, np.int64).reshape(-1, 3),
                          {column: facts[:, i].copy() for i, column in enumerate(columns)})


def find_in_folder(root: str, extensions: Collection[str]) -> ImageIndex:
    """Looks through a folder of any depth. Links are followed, but each folder is entered once."""
    finder = _Finder(root, extensions)
    watched, marks, entered, waiting = [], [], set(), [b'']
    while waiting:
        below = waiting.pop()
        folder = os.path.join(os.fsencode(root), below)
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in entered:
            continue
        entered.add((status.st_dev, status.st_ino))
        watched.append(folder)
        marks.append(mark(status))
        subfolders = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file():  # not a FIFO: opening one would wait for ever
                    finder.add(below + entry.name)
                elif entry.is_dir() and not entry.name.startswith(b'.'):
                    subfolders.append(below + entry.name + b'/')
        waiting += sorted(subfolders, reverse=True)
    return finder.index((), watched, marks)


def find_in_remote_folder(root: str, extensions: Collection[str], storage: Storage) -> ImageIndex:
    """Lists what is below a URL. There is nothing to watch, so this is done at every start."""
    finder = _Finder(root, extensions)
    for name in storage.walk(root):
        finder.add(name)
    return finder.index((), [], [])


def find_in_list(root: str, prefix: str, storage: Storage) -> ImageIndex:
    """Reads a list file: one path a line, a URL, absolute or relative to ``prefix``; empty lines do not count."""
    marks = _marks([root], storage)
    if is_url(root):
        text = storage.read(root)
    else:
        with open(root, 'rb') as file:
            text = file.read()
    names = sorted(line.strip() for line in text.removeprefix(b'\xef\xbb\xbf').split(b'\n') if line.strip())
    if not names:
        raise ValueError(f'data_root={root!r} is an empty list: it needs one path of an image a line')
    # A request for each line would take longer than the rest of the start: a URL that leads nowhere is a bad image.
    missing = [] if is_url(prefix) else [name for name in names if b'://' not in name and not os.path.isfile(
        os.path.join(os.fsencode(prefix), name))]
    if missing:
        raise FileNotFoundError(f'data_root={root!r} lists {len(missing)} files (of {len(names)}) that do not exist '
                                f'below {prefix!r}, the first: {os.fsdecode(missing[0])!r}')
    return ImageIndex(Strings.pack(names), Strings.pack([os.fsencode(root)]), marks)


def _marks(paths: Iterable[str | bytes], storage: Storage) -> np.ndarray:
    paths = [*map(os.fsdecode, paths)]
    return storage.marks(paths) if is_url(paths[0]) else local_marks(paths)


def find_in_tars(root: str, extensions: Collection[str], storage: Storage, archives: Sequence[str],
                 names: Sequence[bytes]) -> ImageIndex:
    """Reads the headers of uncompressed tars.

    Args:
        root: what messages call all of them.
        extensions: lower-case extensions that make a member an image.
        storage: reads tars that have a URL.
        archives: paths or URLs.
        names: name of each tar, which precedes those of its members; of a single one empty.
    """
    marks = _marks(archives, storage)
    found, facts, others, said = [], [], Counter(), time.monotonic()
    with ThreadPoolExecutor(min(len(archives), _TARS_AT_ONCE)) as pool:
        finders = pool.map(partial(_find_in_tar, root, extensions, storage), archives)
        for number, (name, finder) in enumerate(zip(names, finders, strict=True)):
            members = sorted(finder.images)
            found += [name + b'!/' + member for member in members] if name else members
            facts.append(np.array([(number, *finder.images[member]) for member in members], np.int64).reshape(-1, 3))
            others += finder.others
            if time.monotonic() > said + _PROGRESS:
                said = time.monotonic()
                print_log(f'{root}: {number + 1} of {len(archives)} tars read, {len(found)} images', logger='current')
    if not found:
        raise _no_image(root, extensions, others)
    facts = np.concatenate(facts)
    columns = {column: facts[:, i].copy() for i, column in enumerate(('archive', 'offset', 'size'))}
    if len(archives) == 1:
        del columns['archive']
    return ImageIndex(Strings.pack(found), Strings.pack([os.fsencode(path) for path in archives]), marks, columns)


def _open_binary(path: str, storage: Storage) -> BinaryIO:
    if not is_url(path):
        return open(path, 'rb')
    info, = storage.info([path])
    if info['size'] is None:
        raise ValueError(f'the server does not tell the size of {path}')
    return BufferedReader(RemoteFile(storage, path, info['size']), _READAHEAD)


def _find_in_tar(root: str, extensions: Collection[str], storage: Storage, path: str) -> _Finder:
    """The images of one tar, each with its offset and size."""
    finder = _Finder(root, extensions)
    offset = 0
    with _open_binary(path, storage) as file:
        try:
            with tarfile.open(fileobj=file, mode='r:') as tar:
                while (member := tar.next()) is not None:
                    offset = tar.offset
                    tar.members.clear()  # which tarfile would keep: a kilobyte each
                    name = os.fsencode(member.name.removeprefix('./'))
                    if member.islnk():  # a second name for an earlier member
                        facts = finder.images.get(os.fsencode(member.linkname.removeprefix('./')))
                        if facts is not None:
                            finder.add(name, *facts)
                    elif member.isreg() and not member.issparse():
                        finder.add(name, member.offset_data, member.size)
                file.seek(offset)
                if file.read(tarfile.BLOCKSIZE).strip(b'\0'):  # which tarfile takes for the end
                    raise tarfile.TarError('neither a header nor the end of the archive')
        except tarfile.TarError as error:
            raise ValueError(f'data_root={root!r}: {path} is a damaged tar, at byte {offset}: {error}') from error
    return finder


def find_in_zip(root: str, extensions: Collection[str]) -> ImageIndex:
    """Reads the directory of a zip."""
    finder = _Finder(root, extensions)
    watched = [os.fsencode(root)]
    marks = local_marks([root])
    try:
        with zipfile.ZipFile(root) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    finder.add(os.fsencode(member.filename), member.header_offset, member.compress_size,
                               member.compress_type, member.CRC, member.flag_bits & 1)
    except zipfile.BadZipFile as error:
        raise ValueError(f'data_root={root!r} is a damaged zip: {error}') from error
    for name, (_, _, method, _, encrypted) in finder.images.items():
        if encrypted or method not in (_STORED, _DEFLATED):
            raise ValueError(f'data_root={root!r}: {os.fsdecode(name)!r} is encrypted, or compressed by another method '
                             'than deflate; pack the images anew with "zip -0 -r"')
    return finder.index(('offset', 'size', 'method', 'crc'), watched, marks)


def _expand(pattern: str) -> list[str]:
    """What a pattern stands for: ``{000..099}`` counts, ``{train,val}`` lists."""
    braces = _BRACES.search(pattern)
    if braces is None:
        return [pattern]
    bounds = re.fullmatch(r'(\d+)\.\.(\d+)', braces[1])
    parts = braces[1].split(',')
    if bounds:
        width = max(map(len, bounds.groups())) if any(bound[0] == '0' for bound in bounds.groups()) else 1
        parts = [f'{number:0{width}}' for number in range(int(bounds[1]), int(bounds[2]) + 1)]
    return [path for part in parts for path in _expand(pattern[:braces.start()] + part + pattern[braces.end():])]


def _match(pattern: str, storage: Storage) -> tuple[str, list[bytes]]:
    """The folder or URL that a pattern begins with, and the names below it of the files that match."""
    base = re.split(r'[*{]', pattern, maxsplit=1)[0].rpartition('/')[0]
    paths = []
    for path in _expand(pattern):
        paths += [path] if '*' not in path else storage.glob(path) if is_url(path) else sorted(glob(path))
    if not paths:
        raise FileNotFoundError(f'data_root={pattern!r} matches no file')
    missing = [path for path in paths if not is_url(path) and not os.path.isfile(path)]
    if missing:
        raise FileNotFoundError(f'data_root={pattern!r} stands for {len(missing)} files (of {len(paths)}) that do not '
                                f'exist, the first: {missing[0]!r}')
    names = list(dict.fromkeys(map(names_below(base), paths)))
    if not all(names):
        raise ValueError(f'data_root={pattern!r}: the addresses of several tars cannot have a query (?...)')
    return base, names


def _open_tars(root: str, base: str, names: Sequence[bytes], extensions: Collection[str],
               storage: Storage) -> TarMembers:
    """Tars below a folder or URL; a single one without names is ``root`` itself."""
    archives = [join(base, name) for name in names] or [root]
    kind = RemoteTarMembers if is_url(root) else TarMembers
    index = cached_index(partial(find_in_tars, root, extensions, storage, archives, names or [b'']), root,
                         [*sorted(extensions), repr(storage.options), *archives], partial(_marks, storage=storage))
    return kind(root, f'{base}/' if names else f'{root}!/', index, storage, archives)


def _open_list(root: str, prefix: str, storage: Storage) -> Files | RemoteFiles:
    index = cached_index(partial(find_in_list, root, prefix, storage), root, [prefix, repr(storage.options)],
                         partial(_marks, storage=storage))
    remote = is_url(prefix) or b'://' in index.names.text.tobytes()
    return (RemoteFiles if remote else Files)(root, prefix, index, storage)


def _open_remote(root: str, extensions: Collection[str], data_prefix: str | None, storage: Storage) -> Source:
    path = root.lower().split('?', 1)[0]  # without the query of HTTP
    if path.endswith('.txt'):
        return _open_list(root, data_prefix or root.rpartition('/')[0], storage)
    if '*' in root or _BRACES.search(root):
        return _open_tars(root, *_match(root, storage), extensions, storage)
    if path.endswith('.tar'):
        return _open_tars(root, '', [], extensions, storage)
    if path.endswith(('.zip', '.gz', '.tgz', '.bz2', '.xz', '.zst')):
        raise ValueError(f'data_root={root!r}: of archives on a server only uncompressed .tar can be read in place')
    root = root.rstrip('/')
    try:
        return RemoteFiles(root, root, find_in_remote_folder(root, extensions, storage), storage)
    except _OnlyTars as found:
        return _open_tars(root, root, found.args[0], extensions, storage)


def open_source(data_root: str, extensions: Collection[str], data_prefix: str | None = None,
                storage: Storage | None = None) -> Source:
    """Finds the images of a data root.

    Args:
        data_root: a folder, a ``.txt`` list of paths, an uncompressed tar, several tars (as a pattern, or a folder that
            holds tars and no image), or a zip; or a URL of fsspec of any of these but a zip.
        extensions: lower-case extensions, with their dot, of the files to take; a list is taken whole.
        data_prefix: folder that the paths in a list are relative to; by default the list's.
        storage: time limit, tries and fsspec's options.

    Raises:
        FileNotFoundError: if ``data_root``, or a file in the list, does not exist.
        ValueError: if there is no image, if a tar is damaged, or if ``data_root`` is none of these.
        ConnectionError: if a server could not be read, as often as it was tried.
        ImportError: if the package for a protocol is not installed.
    """
    storage = storage or Storage()
    root = os.fspath(data_root).removeprefix('file://')
    if data_prefix is not None and not root.lower().split('?', 1)[0].endswith('.txt'):
        raise ValueError(f'data_prefix={data_prefix!r} goes with a .txt list of paths, but data_root is {root!r}')
    if is_url(root):
        try:
            return _open_remote(root, extensions, data_prefix, storage)
        except Exception as error:
            if str(error).startswith('data_root='):
                raise
            reason = reason_of(error)
            kind = next((kind for kind in (ImportError, ValueError, FileNotFoundError) if isinstance(error, kind)),
                        ConnectionError)
            raise kind(f'data_root={root!r} cannot be read: {reason} ({type(reason).__name__})') from error
    root = os.path.abspath(os.path.expanduser(root))
    if not os.path.exists(root):
        if '*' in root or _BRACES.search(root):
            return _open_tars(root, *_match(root, storage), extensions, storage)
        parent = next(parent for parent in Path(root).parents if parent.exists())
        raise FileNotFoundError(f'data_root={root!r} does not exist; the nearest folder that does is {str(parent)!r}')
    if os.path.isdir(root):
        try:
            index = cached_index(partial(find_in_folder, root, extensions), root, sorted(extensions))
        except _OnlyTars as found:
            return _open_tars(root, root, found.args[0], extensions, storage)
        return Files(root, root, index, storage)
    if root.lower().endswith('.txt'):
        prefix = os.path.dirname(root) if data_prefix is None else data_prefix
        return _open_list(root, prefix if is_url(prefix) else os.path.abspath(os.path.expanduser(prefix)), storage)
    with open(root, 'rb') as file:
        start = file.read(8)
    for magic, method in _COMPRESSED.items():
        if start.startswith(magic):
            raise ValueError(f'data_root={root!r} is compressed with {method}, in which no image can be read without '
                             'all before it: decompress it to a plain tar, or unpack it')
    if zipfile.is_zipfile(root):
        index = cached_index(partial(find_in_zip, root, extensions), root, sorted(extensions))
        return ZipMembers(root, f'{root}!/', index, storage, [root])
    if tarfile.is_tarfile(root):
        return _open_tars(root, '', [], extensions, storage)
    raise ValueError(f'data_root={root!r} is a file, but neither a .txt list of paths nor a tar nor a zip')
