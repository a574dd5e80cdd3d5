"""From one format of weights to another, tensor by tensor, and back."""

import os
from pathlib import Path

import torch
from torch import Tensor

from .checkpoint import Weights, read_weights, shorten, tensors_in
from .files import CARD_KEY, save_pth, save_safetensors
from .formats import FORMATS, from_plugin
from .safe_load import load_file

_SUFFIXES = ('.pth', '.pt', '.bin', '.safetensors')


def convert(source: str, target: str | os.PathLike, to: str, encoder_only: bool = False,
            overwrite: bool = False) -> Weights:
    """Write the weights of ``source`` to ``target`` in the format ``to``, read them back and compare.

    Args:
        source: What :func:`~mae_plugin.weights.checkpoint.read_weights` takes.
        target: The new file; its suffix says how it is written.
        to: A key of :data:`~mae_plugin.weights.formats.FORMATS`.
        encoder_only: Leave out everything but the encoder.
        overwrite: Let ``target`` be replaced.

    Returns:
        What was written, by our names.

    Raises:
        FileNotFoundError: There is no ``source``.
        ValueError: ``source`` cannot be read, ``target`` exists or has another suffix, or a tensor has no place in the
            format: nothing is left out in silence.
    """
    target = Path(target).expanduser()
    if to not in FORMATS:
        raise ValueError(f'{to} is no format; there are {", ".join(FORMATS)}')
    if target.suffix not in _SUFFIXES:
        raise ValueError(f'{target}: the name of the new file ends in one of {", ".join(_SUFFIXES)}')
    if target.exists() and not overwrite:
        raise ValueError(f'{target} exists: name another file, or give --overwrite')
    weights = read_weights(source)
    if weights.unknown:
        raise ValueError(f'{source} has tensors that the format {weights.format} has no meaning for '
                         f'({shorten(weights.unknown)}): it is not only a plain ViT')
    if encoder_only:
        weights.state = {name: value for name, value in weights.state.items() if name.startswith('backbone.')}
    translated, homeless = from_plugin(weights.state, to)
    if homeless:
        encoder = any(name.startswith('backbone.') for name in homeless)
        raise ValueError(
            f'{source}: {len(homeless)} of its {len(weights.state)} tensors have no place in the format {to} '
            f'({shorten(homeless)})'
            + ('' if encoder or encoder_only else ': --encoder-only leaves out all that is not encoder'))
    origin = dict(file=Path(weights.file).name, sha256=weights.sha256, format=weights.format)
    weights.card = {**(weights.card or {}), 'converted_from': origin}
    _write(target, translated, to, weights.card)
    _compare(target, translated)
    return weights


def _write(target: Path, tensors: dict[str, Tensor], to: str, card: dict) -> None:
    container = FORMATS[to].container
    if target.suffix == '.safetensors':
        save_safetensors(target, tensors, card)
    else:
        tensors = {name: value.clone() for name, value in tensors.items()}  # not the storage they are a view of
        save_pth(target, {'meta': {CARD_KEY: card}, container: tensors} if container else tensors)


def _compare(target: Path, tensors: dict[str, Tensor]) -> None:
    """Read ``target`` as anybody would: all tensors are there, bit by bit."""
    written, _ = tensors_in(load_file(target), str(target))
    changed = [name for name in tensors.keys() | written.keys()
               if name not in written or name not in tensors or not torch.equal(written[name], tensors[name])]
    assert not changed, changed
