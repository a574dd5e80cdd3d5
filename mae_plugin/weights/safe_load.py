"""Reading the files a user names, without running anything that is stored in them.

A checkpoint is a pickle, and a pickle may call any function while it is read. MMEngine 0.10.7 reads it that way, and
onedl-mmengine falls back to it. Here every file goes through :func:`load_file`: PyTorch's restricted reader
(``weights_only=True``) plus stand-ins for the few other things that MMEngine's and the MAE authors' files hold. What a
stand-in collects is turned into the real object after reading, so no constructor of NumPy or MMEngine is ever called
with a stored state, and ``getattr``, which MMEngine's log history asks for, is never the real one. detectron2's files
of NumPy arrays, plain pickles, are read with the same stand-ins and nothing else.
"""

import argparse
import difflib
import errno
import io
import os
import pickle
import pickletools
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as theirs
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.utils import digit_version

from .files import CARD_KEY, SHA256_KEY, content_sha256


class _DType:
    """Stands for ``numpy.dtype``: numbers, truth values and text, no objects and no records."""

    def __init__(self, code: str, align: bool = False, copy: bool = True):
        if not re.fullmatch(r'[biufcSU]\d+', code):
            raise pickle.UnpicklingError(f'arrays of type {code!r} are not read')
        self.code = code
        self.byte_order = '='

    def __setstate__(self, state: tuple):
        self.byte_order = state[1]

    def restore(self) -> np.dtype:
        return np.dtype(self.code).newbyteorder(self.byte_order)


class _Array:
    """Stands for ``numpy.ndarray`` and for the function that makes an empty one before its state is known."""

    def __init__(self, *unused):
        pass

    def __setstate__(self, state: tuple):
        self.state = state

    def restore(self) -> np.ndarray:
        _, shape, dtype, is_fortran, data = self.state
        return np.frombuffer(data, dtype.restore()).reshape(shape, order='F' if is_fortran else 'C').copy()


class _History:
    """Stands for :class:`mmengine.logging.HistoryBuffer`, whose own state names functions."""

    def __setstate__(self, state: dict):
        self.state = state

    def restore(self) -> HistoryBuffer:
        log, count = self.state['_log_history'], self.state['_count_history']
        return HistoryBuffer(log.restore(), count.restore(), self.state['max_length'])


def _scalar(dtype: _DType, data: bytes) -> Any:
    """Stands for NumPy's function that makes a scalar; returns the plain Python one."""
    return np.frombuffer(data, dtype.restore())[0].item()


def _no_attribute(*unused) -> None:
    """Stands for ``getattr``: the log history's list of statistics methods is not needed."""


def _no_bytes() -> bytes:
    """Stands for ``bytes``, which empty arrays call without an argument."""
    return b''


def _encode(text: str, encoding: str) -> bytes:
    """Stands for ``_codecs.encode``, with which protocol 2 writes bytes, always as Latin-1."""
    return text.encode('latin1')


def _from_buffer(data: bytes, dtype: _DType, shape: tuple, order: str) -> _Array:
    """Stands for NumPy's function with which protocol 5 makes an array."""
    array = _Array()
    array.__setstate__((None, shape, dtype, order == 'F', data))
    return array


_OF_NUMPY = [
    *((_no_bytes, f'{module}.bytes') for module in ('builtins', '__builtin__')),
    (_DType, 'numpy.dtype'),
    (_Array, 'numpy.ndarray'),
    *((_Array, f'numpy.{core}.multiarray._reconstruct') for core in ('core', '_core')),
    *((_scalar, f'numpy.{core}.multiarray.scalar') for core in ('core', '_core')),
]
_ALLOWED = [
    argparse.Namespace,
    (_no_attribute, 'builtins.getattr'),
    (_History, 'mmengine.logging.history_buffer.HistoryBuffer'),
    *_OF_NUMPY,
]


class _Sealed:
    """A function that a pickle can call; it cannot set attributes of it, as it could of the function itself."""

    def __init__(self, function: Callable):
        self.function = function

    def __call__(self, *args) -> Any:
        return self.function(*args)

    def __setstate__(self, state: Any):
        raise pickle.UnpicklingError('it sets the state of a function')


class _PlainUnpickler(pickle.Unpickler):
    """Reads a pickle that is no checkpoint of PyTorch's: containers, numbers, text, and NumPy arrays of numbers."""

    known = {name: _Sealed(stand_in) for stand_in, name in (
        *_OF_NUMPY, *((_from_buffer, f'numpy.{core}.numeric._frombuffer') for core in ('core', '_core')),
        (_encode, '_codecs.encode'), (dict, 'collections.OrderedDict'))}

    def find_class(self, module: str, name: str) -> _Sealed:
        """The stand-in for an object, whatever else it is."""
        full_name = f'{module}.{name}'
        if full_name not in self.known:
            raise pickle.UnpicklingError(f'GLOBAL {full_name}')
        return self.known[full_name]


def _restore(value: Any, done: dict[int, Any]) -> Any:
    """Replace the stand-ins inside ``value`` by real objects, each once; dicts and lists are changed in place."""
    # An id is as good as the object: all that is walked was there before the walk began, each at a place of its own,
    # and what is made on the way, which may take the place of a stand-in, is never walked.
    if id(value) in done:
        return done[id(value)]
    done[id(value)] = value
    if isinstance(value, (_Array, _DType, _History)):
        done[id(value)] = value.restore()
    elif type(value) is tuple:
        done[id(value)] = tuple(_restore(item, done) for item in value)
    elif isinstance(value, dict):
        for key, item in value.items():
            value[key] = _restore(item, done)
    elif isinstance(value, list):
        value[:] = [_restore(item, done) for item in value]
    elif isinstance(value, argparse.Namespace):
        _restore(vars(value), done)
    return done[id(value)]


def _drop_config_text(checkpoint: Any) -> None:
    """Remove stored configs: ``Runner.resume`` and the inferencers of MMEngine would execute them."""
    if not isinstance(checkpoint, dict):
        return
    hub = checkpoint.get('message_hub')
    for holder in (checkpoint.get('meta'), hub.get('runtime_info') if isinstance(hub, dict) else None):
        if isinstance(holder, dict):
            holder.pop('config', None)
            holder.pop('cfg', None)


def _read_pickle(path: Path | BinaryIO, map_location: Any) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not look at the checksums
            records = archive.infolist()
        # It leaves memory as it was for a record with the mark of a folder, and of two of one name reads the other.
        names = Counter(record.filename for record in records)
        odd = [record.filename for record in records
               if names[record.filename] > 1 or record.external_attr & 0x10 and not record.is_dir()]
        if odd:
            raise zipfile.BadZipFile(f'its record {odd[0]} is there twice, or marked as a folder')
        if damaged is not None:
            raise zipfile.BadZipFile(f'the checksum of its record {damaged} is wrong')
    if not isinstance(path, Path):
        path.seek(0)
    # What others have allowed for the whole process could be the real getattr.
    foreign = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            return _restore(torch.load(path, map_location=map_location, weights_only=True), {})
    finally:
        torch.serialization.add_safe_globals(foreign)


def _read_plain_pickle(path: Path) -> Any:
    """What a plain pickle holds; the arrays of a dict of weights, which may be under ``model``, become tensors."""
    data = path.read_bytes()
    for count, (operation, argument, _) in enumerate(pickletools.genops(data)):  # checks the lengths, too
        if 'PUT' in operation.name and argument > count:
            raise pickle.UnpicklingError('it numbers more objects than it has')  # a table of that size would be made
    content = _restore(_PlainUnpickler(io.BytesIO(data)).load(), {})
    for holder in (content, content.get('model')) if isinstance(content, dict) else ():
        if isinstance(holder, dict):
            holder.update({name: torch.from_numpy(value.astype(value.dtype.newbyteorder('=')))
                           for name, value in holder.items()
                           if isinstance(value, np.ndarray) and value.dtype.kind in 'biufc'})
    return content


def safetensors_metadata(path: str | os.PathLike) -> dict[str, str]:
    """Metadata of a ``.safetensors`` file."""
    from safetensors import safe_open  # timm brings it
    with safe_open(path, framework='pt') as file:
        return file.metadata() or {}


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a ``.safetensors`` file, checked against the SHA-256 in its metadata.

    The format has no checksum of its own: in a file without that entry, which is none of ours, damage is not seen.
    """
    from safetensors.torch import load_file as load_safetensors
    tensors, metadata = load_safetensors(path), safetensors_metadata(path)
    expected = metadata.get(SHA256_KEY)
    if expected is None and CARD_KEY in metadata or expected not in (None, content_sha256(tensors, metadata)):
        raise ValueError('its content does not have the SHA-256 that it carries')
    return tensors


def load_file(path: str | os.PathLike, map_location: Any = 'cpu') -> Any:
    """Read a checkpoint (``.pth`` and the like, ``.safetensors``, or detectron2's ``.pkl``) and run nothing it holds.

    Tensors, numbers, text, containers of them, NumPy arrays of numbers, MMEngine's log history and
    ``argparse.Namespace`` are read; there is no fallback for anything else. Texts of configs are dropped from ``meta``
    and from the message hub, because MMEngine would execute them. NumPy scalars become Python numbers and,
    in a ``.pkl``, the arrays tensors. A ``.pkl`` has no checksum: a flipped bit among its numbers is not seen.

    Args:
        path: A local file.
        map_location: As in :func:`torch.load`; a ``.safetensors`` file is always read to the CPU.

    Returns:
        What was saved: for a checkpoint a dict.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no checkpoint, is damaged, or holds something that could run code.
    """
    if '://' in str(path):
        raise ValueError(f'{path} is an address; download it and give the path of the file')
    path = Path(path).expanduser()
    if path.is_dir():
        raise ValueError(f'{path} is a folder; give one of its checkpoints: {_checkpoints_in(path)}')
    if path.is_symlink() and not path.exists():
        raise FileNotFoundError(f'{path} is a link to {os.readlink(path)}, which does not exist')
    if not path.exists():
        raise FileNotFoundError(f'{path} does not exist; ' + (
            f'checkpoints in its folder: {_checkpoints_in(path.parent, path.name)}' if path.parent.is_dir()
            else 'nor does its folder'))
    if not path.is_file():  # reading a pipe or a device would wait for ever
        raise ValueError(f'{path} is no file: it is a pipe, a socket or a device')
    try:
        if path.suffix == '.safetensors':
            return _read_safetensors(path)
        is_plain = path.suffix == '.pkl' and not zipfile.is_zipfile(path)
        checkpoint = _read_plain_pickle(path) if is_plain else _read_pickle(path, map_location)
    except MemoryError:
        raise
    except Exception as error:  # torch.load has no error class of its own for what a broken file makes it do
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that comes of places beyond a file cut short
            raise
        refused = re.search(r'GLOBAL (\S+)', str(error))
        if refused:
            raise ValueError(
                f'{path} is refused: it holds {refused[1]}, and reading that could run code; only tensors, numbers, '
                'text and log histories are read. If you trust its author, ask for a file of the weights alone '
                '(torch.save(model.state_dict(), ...))') from error
        # PyTorch puts its advice around the reason.
        reason = re.search(r'WeightsUnpickler error:\s*(.+)', str(error)) or re.search(r'(\S.*)', str(error))
        reason = _known_content(path) or (reason[1].split('. ')[0] if reason else type(error).__name__)
        raise ValueError(f'{path} is not a checkpoint, or is cut off or damaged ({reason}): fetch or copy it once '
                         'more') from error
    _drop_config_text(checkpoint)
    return checkpoint


def _known_content(path: Path) -> str | None:
    """What a file is that is often taken for a checkpoint."""
    with open(path, 'rb') as file:
        start = file.read(64)
    if not start:
        return 'it is empty'
    if start.startswith(b'version https://git-lfs'):
        return "it is a pointer of Git LFS: 'git lfs pull' fetches the file itself"
    if start.lstrip().startswith(b'<'):
        return 'it is a web page'
    is_safetensors = start[8:10] == b'{"'
    if is_safetensors != (path.suffix == '.safetensors') and (is_safetensors or start.startswith(b'PK')):
        return f'its content is that of a {".safetensors" if is_safetensors else ".pth"} file'
    return None


def _checkpoints_in(folder: Path, name: str = '') -> str:
    """Up to ten names, those most like ``name`` first."""
    names = sorted(file.name for pattern in ('*.pth', '*.safetensors') for file in folder.glob(pattern))
    names.sort(key=lambda other: difflib.SequenceMatcher(None, name, other).ratio(), reverse=True)
    return ', '.join(names[:10]) or 'none'


def load_from_local(path: str, map_location: Any = None) -> Any:
    """:func:`load_file` as MMEngine calls the loader of a scheme (its log shows what follows ``load_from_``).

    Raises:
        ValueError: As there, or it is no dict, which MMEngine and its hooks count on.
    """
    checkpoint = load_file(path, map_location or 'cpu')
    if not isinstance(checkpoint, dict):
        raise ValueError(f'{path} holds a {type(checkpoint).__name__} and no checkpoint')
    return checkpoint


def load_from_web(address: str, map_location: Any = None, **unused) -> Any:
    """Download a checkpoint into PyTorch's cache, unless it is there, and read it as :func:`load_from_local`."""
    file = Path(torch.hub.get_dir(), 'checkpoints', Path(urlsplit(address).path).name)
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(address, str(file), progress=False)
    return load_from_local(file, map_location)


def _load_for_onedl(file: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
    """In place of a function that allows ``getattr`` and then falls back to running code."""
    if isinstance(file, str | os.PathLike):
        return load_from_local(file, map_location)
    checkpoint = _read_pickle(file, map_location)  # the bytes of an object store
    _drop_config_text(checkpoint)
    return checkpoint


def install() -> None:
    """Make MMEngine, and all that is built on it, read checkpoints with :func:`load_file`, downloaded ones, too.

    This covers ``load_from``, ``--resume`` and ``init_cfg`` of every library. It holds for the whole process, so tools
    call it and importing the package does not. Every other ``torch.load`` of the process is held to PyTorch's
    restricted reader by its environment variable.
    """
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    CheckpointLoader.register_scheme(('http://', 'https://'), load_from_web, force=True)
    theirs.load_from_http = load_from_web  # torchvision:// and the other lists of addresses call it
    if hasattr(theirs, '_safe_torch_load'):
        theirs._safe_torch_load = _load_for_onedl
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
    if digit_version(torch.__version__) < digit_version('2.10.0'):
        warnings.warn(
            f'PyTorch {torch.__version__} has known holes in its restricted reader (CVE-2025-32434 before 2.6, '
            'CVE-2026-24747 before 2.10): read only checkpoints that you trust', stacklevel=2)
