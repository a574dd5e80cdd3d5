"""Writing weights so that damage is seen when they are read."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

CARD_KEY = 'mae_plugin'  # of a checkpoint's meta, and of the metadata of a .safetensors file
SHA256_KEY = 'sha256'


def content_sha256(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 over names, types, shapes and bytes of ``tensors`` and over ``metadata`` but for its own entry."""
    digest = hashlib.sha256()
    for key in sorted(metadata.keys() - {SHA256_KEY}):
        digest.update(repr((key, metadata[key])).encode())
    for name in sorted(tensors):
        value = tensors[name].detach().cpu()
        digest.update(repr((name, str(value.dtype), tuple(value.shape))).encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def save_safetensors(path: str | os.PathLike, tensors: Mapping[str, Tensor], card: dict | None) -> None:
    """Write ``tensors`` with their SHA-256, which :func:`load_file` checks, and the ``card`` in the metadata."""
    from safetensors.torch import save_file
    metadata = {'format': 'pt'} | ({} if card is None else {CARD_KEY: json.dumps(card)})
    metadata[SHA256_KEY] = content_sha256(tensors, metadata)
    # Copies, because the format refuses tensors that share memory.
    copies = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
              for name, value in tensors.items()}
    write_whole(Path(path), lambda part: save_file(copies, part, metadata))


def save_pth(path: str | os.PathLike, content: dict) -> None:
    """``torch.save`` in one step: the file is there whole, or not at all."""
    write_whole(Path(path), lambda part: torch.save(content, part))


def write_whole(path: Path, save: Callable[[Path], None]) -> None:
    """Let ``save`` write beside ``path``, then put it there in one step; a link is replaced, not what it leads to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix='.', dir=path.parent) as folder:  # of our own: nobody can put a link there
        part = Path(folder, path.name)
        save(part)
        os.replace(part, path)
