"""Where images without labels lie: a folder of any depth, a list of files, a tar, a zip."""

import os
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection
from functools import partial
from pathlib import Path

import numpy as np

from .index_cache import ImageIndex, Strings, cached_index, mark

_COMPRESSED = {b'\x1f\x8b': 'gzip', b'BZh': 'bzip2', b'\xfd7zXZ\x00': 'xz', b'\x28\xb5\x2f\xfd': 'zstd'}
_STORED, _DEFLATED = 0, 8


class Files:
    """Images that are files of their own."""

    def __init__(self, root: str, index: ImageIndex) -> None:
        self.root = root
        self.names = index.names

    def path(self, number: int) -> str:
        """Path of an image, for people and messages."""
        return os.path.join(self.root, os.fsdecode(self.names[number]))

    def read(self, number: int) -> bytes:
        """The encoded image."""
        with open(self.path(number), 'rb') as file:
            return file.read()


class TarMembers:
    """Images inside an uncompressed tar, read in place."""

    def __init__(self, root: str, index: ImageIndex) -> None:
        self.root = root
        self.names = index.names
        self.columns = index.columns
        self._descriptor = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_descriptor': None}

    def path(self, number: int) -> str:
        """Path of an image, for people and messages."""
        return f'{self.root}!/{os.fsdecode(self.names[number])}'

    def _read_at(self, offset: int, size: int) -> bytes:
        """Bytes of the archive."""
        # pread has no file position, so workers forked after the first read may go on with the same descriptor.
        if self._descriptor is None:
            self._descriptor = os.open(self.root, os.O_RDONLY)
        data = os.pread(self._descriptor, size, offset)
        if len(data) != size:
            raise EOFError('the archive ends inside this image')
        return data

    def read(self, number: int) -> bytes:
        """The encoded image."""
        return self._read_at(int(self.columns['offset'][number]), int(self.columns['size'][number]))


class ZipMembers(TarMembers):
    """Images inside a zip, stored or deflated, read in place and compared with their checksum."""

    def read(self, number: int) -> bytes:
        """The encoded image."""
        facts = (int(self.columns[name][number]) for name in ('offset', 'size', 'method', 'crc'))
        offset, size, method, checksum = facts
        signature, name_length, extra_length = struct.unpack('<4s22xHH', self._read_at(offset, 30))
        if signature != b'PK\3\4':
            raise ValueError('the archive was changed while it was in use')
        data = self._read_at(offset + 30 + name_length + extra_length, size)
        if method == _DEFLATED:
            data = zlib.decompress(data, wbits=-zlib.MAX_WBITS)
        if zlib.crc32(data) != checksum:
            raise ValueError('its checksum is not the one in the archive')
        return data


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

    def add(self, name: bytes, *facts: int) -> None:
        """Takes a file: an image if its extension says so, unless it is hidden or one of macOS's shadow files."""
        parts = name.split(b'/')
        extension = os.path.splitext(parts[-1])[1].lower()
        if extension not in self.extensions:
            self.others[os.fsdecode(extension) or 'without extension'] += 1
        elif any(part.startswith(b'.') or part == b'__MACOSX' for part in parts):
            self.others['hidden'] += 1
        else:
            self.images[name] = facts

    def index(self, columns: tuple[str, ...], watched: list[bytes], marks: list[tuple[int, int, int]]) -> ImageIndex:
        """What was found, sorted by name; ValueError if it is nothing."""
        if not self.images:
            others = ', '.join(f'{count} {kind}' for kind, count in self.others.most_common(8))
            raise ValueError(f'data_root={self.root!r} holds no image among its {self.others.total()} files'
                             f'{f" ({others})" if others else ""}; images end in '
                             f'{", ".join(sorted(map(os.fsdecode, self.extensions)))}')
        names = sorted(self.images)
        facts = np.array([self.images[name] for name in names], np.int64)
        return ImageIndex(Strings.pack(names), Strings.pack(watched), np.array(marks, np.int64),
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


def find_in_list(root: str, prefix: str) -> ImageIndex:
    """Reads a list file: one path a line, absolute or relative to ``prefix``; empty lines do not count."""
    marks = [mark(os.stat(root))]
    with open(root, 'rb') as file:
        lines = file.read().removeprefix(b'\xef\xbb\xbf').split(b'\n')
    names = sorted(line.strip() for line in lines if line.strip())
    if not names:
        raise ValueError(f'data_root={root!r} is an empty list: it needs one path of an image a line')
    missing = [name for name in names if not os.path.isfile(os.path.join(os.fsencode(prefix), name))]
    if missing:
        raise FileNotFoundError(f'data_root={root!r} lists {len(missing)} files (of {len(names)}) that do not exist '
                                f'below {prefix!r}, the first: {os.fsdecode(missing[0])!r}')
    return ImageIndex(Strings.pack(names), Strings.pack([os.fsencode(root)]), np.array(marks, np.int64))


def find_in_tar(root: str, extensions: Collection[str]) -> ImageIndex:
    """Reads the headers of an uncompressed tar."""
    finder = _Finder(root, extensions)
    watched = [os.fsencode(root)]
    marks = [mark(os.stat(root))]
    try:
        with tarfile.open(root, 'r:') as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # which tarfile would keep: a kilobyte each
                name = os.fsencode(member.name.removeprefix('./'))
                if member.islnk():  # a second name for an earlier member
                    facts = finder.images.get(os.fsencode(member.linkname.removeprefix('./')))
                    if facts is not None:
                        finder.add(name, *facts)
                elif member.isreg() and not member.issparse():
                    finder.add(name, member.offset_data, member.size)
    except tarfile.TarError as error:
        raise ValueError(f'data_root={root!r} is a damaged tar: {error}') from error
    return finder.index(('offset', 'size'), watched, marks)


def find_in_zip(root: str, extensions: Collection[str]) -> ImageIndex:
    """Reads the directory of a zip."""
    finder = _Finder(root, extensions)
    watched = [os.fsencode(root)]
    marks = [mark(os.stat(root))]
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


def open_source(data_root: str, extensions: Collection[str], data_prefix: str | None = None) -> Files | TarMembers:
    """Finds the images of a data root.

    Args:
        data_root: a folder, a ``.txt`` list of paths, an uncompressed tar, or a zip.
        extensions: lower-case extensions, with their dot, of the files to take; a list is taken whole.
        data_prefix: folder that the paths in a list are relative to; by default the list's.

    Raises:
        FileNotFoundError: if ``data_root``, or a file in the list, does not exist.
        ValueError: if there is no image, or if ``data_root`` is none of the four.
    """
    root = os.path.abspath(os.path.expanduser(data_root))
    is_list = root.lower().endswith('.txt')
    if not os.path.exists(root):
        parent = next(parent for parent in Path(root).parents if parent.exists())
        raise FileNotFoundError(f'data_root={root!r} does not exist; the nearest folder that does is {str(parent)!r}')
    if data_prefix is not None and not is_list:
        raise ValueError(f'data_prefix={data_prefix!r} goes with a .txt list of paths, but data_root is {root!r}')
    if os.path.isdir(root):
        return Files(root, cached_index(partial(find_in_folder, root, extensions), root, sorted(extensions)))
    if is_list:
        prefix = os.path.dirname(root) if data_prefix is None else os.path.abspath(os.path.expanduser(data_prefix))
        return Files(prefix, cached_index(partial(find_in_list, root, prefix), root, [prefix]))
    with open(root, 'rb') as file:
        start = file.read(8)
    for magic, method in _COMPRESSED.items():
        if start.startswith(magic):
            raise ValueError(f'data_root={root!r} is compressed with {method}, in which no image can be read without '
                             'all before it: decompress it to a plain tar, or unpack it')
    if zipfile.is_zipfile(root):
        return ZipMembers(root, cached_index(partial(find_in_zip, root, extensions), root, sorted(extensions)))
    if tarfile.is_tarfile(root):
        return TarMembers(root, cached_index(partial(find_in_tar, root, extensions), root, sorted(extensions)))
    raise ValueError(f'data_root={root!r} is a file, but neither a .txt list of paths nor a tar nor a zip')
