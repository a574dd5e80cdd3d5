"""What makers of data sets share: a folder that appears whole or not at all, safe unpacking, and equal pictures."""

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations_with_replacement
from pathlib import Path, PurePosixPath

from mae_plugin.datasets.image_io import decode_image

_LOCAL_RANKS = ('LOCAL_RANK', 'SLURM_LOCALID', 'OMPI_COMM_WORLD_LOCAL_RANK')


def ensure_folder(root: str | Path, settings: Mapping, make: Callable[[Path], None], patience: float = 900) -> Path:
    """Return the data set in ``root``, made first when it is not there.

    ``make(folder)`` fills a temporary folder beside ``root``, which is renamed at the end: an interruption leaves no
    half data set. ``root/meta.json`` records ``settings``. Of the processes on one machine the first makes, the others
    wait; of several machines that share ``root`` the first to finish wins.

    Args:
        root: The folder.
        settings: What the data set is made from, as plain JSON values.
        make: Fills the folder it is given.
        patience: Seconds the other processes wait.

    Raises:
        ValueError: ``root`` holds a data set made with other settings, or something else.
        TimeoutError: The first process did not finish.
    """
    root = Path(root)
    if _is_made(root, settings):
        return root
    if int(next((os.environ[name] for name in _LOCAL_RANKS if name in os.environ), 0)) > 0:
        end = time.monotonic() + patience
        while not _is_made(root, settings):
            if time.monotonic() > end:
                raise TimeoutError(f'{root} was not made within {patience:.0f} s by the first process of this machine')
            time.sleep(.2)
        return root

    root.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f'.{root.name}-', dir=root.parent))
    try:
        folder.chmod(0o755)
        make(folder)
        (folder / 'meta.json').write_text(json.dumps(settings, indent=2) + '\n')
        try:
            folder.rename(root)
        except OSError:
            if not _is_made(root, settings):
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return root


def _is_made(root: Path, settings: Mapping) -> bool:
    meta = root / 'meta.json'
    if not meta.is_file():
        if root.exists() and not (root.is_dir() and not any(root.iterdir())):
            raise ValueError(f'{root} exists, but holds no data set made here (no meta.json): name another folder')
        return False
    found = json.loads(meta.read_text())
    differing = [f'{key}={found.get(key)!r} instead of {settings.get(key)!r}'
                 for key in {**settings, **found} if found.get(key) != settings.get(key)]
    if differing:
        raise ValueError(f'{root} was made with {", ".join(differing)}: delete it, or name another folder')
    return True


def unpack(archive: str | Path, folder: Path) -> None:
    """Write the files of a tar into ``folder``.

    Raises:
        ValueError: The file is no tar, or has a member that is a link, a device, or leads out of ``folder``.
    """
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                if name.is_absolute() or '..' in name.parts or not (member.isfile() or member.isdir()):
                    raise ValueError(f'{archive}: {member.name!r} is a link, a device or leads out of the folder; '
                                     'unpack it yourself and name the folder')
                if member.isfile():
                    path = folder / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with tar.extractfile(member) as source, path.open('wb') as target:
                        shutil.copyfileobj(source, target)
    except tarfile.TarError as error:
        raise ValueError(f'{archive} is not a tar that can be read: {str(error).partition(":")[0]}') from None


def pixel_hash(path: str | Path) -> str:
    """Hash a picture as the models see it, 8-bit RGB: equal for equal pixels, whatever the format and the name.

    Raises:
        ImageReadError: The file is no image, or damaged.
    """
    with open(path, 'rb') as file:
        picture = decode_image(file, str(path))
    return hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest()


def find_overlaps(sets: Mapping[str, Iterable[Path]]) -> list[dict[str, list[Path]]]:
    """Find the pictures that several files hold.

    Args:
        sets: Image files by name of the set.

    Returns:
        One dict for each picture that occurs more than once: its files, by name of the set, in the order given.
    """
    places: dict[str, dict[str, list[Path]]] = {}
    for name, files in sets.items():
        for path in files:
            places.setdefault(pixel_hash(path), {}).setdefault(name, []).append(path)
    return [where for where in places.values() if sum(map(len, where.values())) > 1]


def describe_overlaps(overlaps: list[dict[str, list[Path]]]) -> list[str]:
    """One line for each pair of sets that share pictures, and for each set that repeats some."""
    lines = []
    for a, b in combinations_with_replacement(sorted({name for where in overlaps for name in where}), 2):
        if a == b:
            repeated = sum(len(where.get(a, ())) > 1 for where in overlaps)
            lines += [f'{a}: pictures that occur more than once: {repeated}'] * (repeated > 0)
        else:
            shared = sum(a in where and b in where for where in overlaps)
            lines += [f'{a} and {b}: pictures in both: {shared}'] * (shared > 0)
    return lines


def leave_out(files: Iterable[Path], overlaps: list[dict[str, list[Path]]], held_out: Iterable[str]) -> list[Path]:
    """Return the ``files`` that show no picture of the sets named ``held_out``; ``overlaps`` are over all of these."""
    held_out = set(held_out)
    shared = [where for where in overlaps if held_out & where.keys()]
    dropped = {path for where in shared for paths in where.values() for path in paths}
    return [path for path in files if path not in dropped]


def keep_once(files: Iterable[Path], overlaps: list[dict[str, list[Path]]]) -> list[Path]:
    """Return the first of ``files`` for each picture; ``overlaps`` are over all of these."""
    picture = {path: number for number, where in enumerate(overlaps) for paths in where.values() for path in paths}
    first = {}
    for path in files:
        first.setdefault(picture.get(path, path), path)
    return list(first.values())
