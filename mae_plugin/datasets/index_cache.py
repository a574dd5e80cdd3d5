"""What was found in a large folder or archive, kept on disk until the folder or archive changes."""

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

_FORMAT = 1  # of the file: raise it when its content changes
# A folder changed less than this before it was read may change again within one tick of its file system's clock.
_SETTLED_NS = 2 * 10**9
SMALLEST = 10_000  # images; finding fewer takes a fraction of a second


class Strings:
    """Read-only list of byte strings in two arrays, which forked loader workers share and no reference count copies.

    Args:
        text: (sum of lengths,) uint8, all strings one after the other.
        ends: (n,) int64, where each string ends in ``text``.
    """

    def __init__(self, text: np.ndarray, ends: np.ndarray) -> None:
        self.text = text
        self.ends = ends

    @classmethod
    def pack(cls, strings: list[bytes]) -> 'Strings':
        """Copies a list."""
        ends = np.cumsum(np.fromiter(map(len, strings), np.int64, len(strings)))
        return cls(np.frombuffer(b''.join(strings), np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> bytes:
        start = self.ends[index - 1] if index else 0
        return self.text[start:self.ends[index]].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        text, start = self.text.tobytes(), 0
        for end in self.ends.tolist():
            yield text[start:end]
            start = end


@dataclass
class ImageIndex:
    """The images of one source.

    Attributes:
        names: name of each image, sorted.
        columns: further facts of each image, such as its place in an archive, by name: (n,) int64 each.
        watched: paths that cannot stay the same when an image is added, removed or renamed.
        marks: (len(watched), 3) int64, what they looked like before they were read.
    """

    names: Strings
    watched: Strings
    marks: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)


def mark(status: os.stat_result) -> tuple[int, int, int]:
    """What changes when a folder gains, loses or renames an entry, or a file is written."""
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size


def local_marks(paths: Iterable[bytes | str]) -> np.ndarray:
    """The marks of files or folders, (n, 3) int64."""
    return np.array([mark(os.stat(path)) for path in paths], np.int64)


def cache_dir() -> Path:
    """``$MAE_PLUGIN_CACHE/index``, by default ``~/.cache/mae_plugin/index``."""
    return Path(os.environ.get('MAE_PLUGIN_CACHE') or Path('~/.cache/mae_plugin').expanduser()) / 'index'


def _load(path: Path, marks: Callable[[Iterable[bytes]], np.ndarray]) -> ImageIndex | None:
    """The index in a file, or None if there is none that still holds."""
    try:
        with np.load(path) as file:
            data = dict(file)
        index = ImageIndex(Strings(data.pop('names'), data.pop('name_ends')),
                           Strings(data.pop('watched'), data.pop('watched_ends')), data.pop('marks'), data)
        now = marks(index.watched)
    except Exception:  # absent, unreadable, damaged, or a folder is gone: look again
        return None
    return index if np.array_equal(now, index.marks) else None


def _save(index: ImageIndex, path: Path) -> None:
    """Writes an index; a cache that cannot be written is no error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.stem, suffix='.tmp', delete=False) as file:
            try:
                np.savez(file, names=index.names.text, name_ends=index.names.ends, watched=index.watched.text,
                         watched_ends=index.watched.ends, marks=index.marks, **index.columns)
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError:
        pass


def cached_index(find: Callable[[], ImageIndex], root: str, arguments: Iterable[str],
                 marks: Callable[[Iterable[bytes]], np.ndarray] = local_marks) -> ImageIndex:
    """The images of a source: from the cache if nothing has changed since; otherwise looked for and, if many, cached.

    Args:
        find: looks for the images.
        root: absolute path of the source.
        arguments: all else that the result depends on.
        marks: gives what the watched paths look like now, (n, 3) int64.
    """
    identity = '\0'.join([str(_FORMAT), root, *arguments])
    path = cache_dir() / f'{hashlib.sha256(os.fsencode(identity)).hexdigest()[:32]}.npz'
    index = _load(path, marks)
    if index is None:
        started = time.time_ns()
        index = find()
        if len(index.names) >= SMALLEST and index.marks[:, :2].max() < started - _SETTLED_NS:
            _save(index, path)
    return index
