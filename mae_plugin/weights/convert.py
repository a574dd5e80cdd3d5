"""From one format of weights to another, tensor by tensor, and back."""

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from .card import lineage
from .checkpoint import Weights, read_weights, said, shorten, tensors_in
from .files import CARD_KEY, content_sha256, save_pth, save_safetensors
from .formats import FORMATS, from_plugin, to_plugin
from .huggingface import read_folder, write_folder
from .safe_load import load_file

_MASK_TOKEN = 'backbone.mask_token'  # of a MaskTokenViT
_SUFFIXES = ('.pth', '.pt', '.bin', '.safetensors')

# What tensors do not tell, and where a card has it.
FACTS = {'mean': ('mean', ), 'std': ('std', ), 'num_heads': ('backbone', 'num_heads'),
         'decoder_num_heads': ('decoder', 'decoder_num_heads'), 'norm_pix': ('target', 'norm_pix'),
         'mask_ratio': ('masking', 'mask_ratio')}
_FORMS = {'mean': list, 'std': list, 'norm_pix': bool, 'mask_ratio': float}  # of the facts; the others are int


def convert(source: str, target: str | os.PathLike, to: str, encoder_only: bool = False, overwrite: bool = False,
            facts: Mapping[str, object] | None = None) -> Weights:
    """Write the weights of ``source`` to ``target`` in the format ``to``, read them back and compare.

    Args:
        source: What :func:`~mae_plugin.weights.checkpoint.read_weights` takes.
        target: The new file; its suffix says how it is written. Without a suffix it is a folder of transformers'.
        to: A key of :data:`~mae_plugin.weights.formats.FORMATS`.
        encoder_only: Leave out everything but the encoder.
        overwrite: Let ``target`` be replaced.
        facts: Values of :data:`FACTS` that ``source`` does not tell, or tells wrongly. A folder needs them all.

    Returns:
        What was written, by our names.

    Raises:
        FileNotFoundError: There is no ``source``.
        ValueError: ``source`` cannot be read or lacks half of its decoder, ``target`` exists or has another suffix, or
            a tensor has no place in the format: nothing is left out in silence.
        OSError: What was written is not what comes back.
    """
    target = Path(target).expanduser()
    if to not in FORMATS:
        raise ValueError(f'{to} is no format; there are {", ".join(FORMATS)}')
    as_folder = to == 'huggingface' and not target.suffix
    if not as_folder and target.suffix not in _SUFFIXES:
        raise ValueError(f'{target}: the name of the new file ends in one of {", ".join(_SUFFIXES)}')
    if target.exists() and not overwrite:
        raise ValueError(f'{target} exists: name another file, or give --overwrite')
    weights = read_weights(source)
    weights.check_known()
    if encoder_only:  # as tasks have it
        weights.state = {name: value for name, value in weights.state.items()
                         if name.startswith('backbone.') and name != _MASK_TOKEN}
    if weights.lost_of_decoder and not encoder_only:
        raise ValueError(f'{source} lacks part of its decoder: {shorten(weights.lost_of_decoder)}: '
                         '--encoder-only leaves out the rest of it')
    if weights.other_decoder and to != 'plugin':
        raise ValueError(f"{source} holds another decoder than MAE's ({weights.other_decoder}), for which the format "
                         f'{to} has no place: --encoder-only leaves it out')
    try:
        translated, homeless = from_plugin(weights.state, to)
    except ValueError as error:
        raise ValueError(f'{source} has no form as {to}: {error}') from error
    if homeless:
        encoder = any(name.startswith('backbone.') and name != _MASK_TOKEN for name in homeless)
        raise ValueError(
            f'{source}: {len(homeless)} of its {len(weights.state)} tensors have no place in the format {to} '
            f'({shorten(homeless)})'
            + ('' if encoder or encoder_only else ': --encoder-only leaves out all that is not encoder'))
    (origin, *older), card = lineage(weights.file, weights.sha256, weights.card), weights.card or {}
    if older:
        card = {**card, 'parents': older}
    origin = dict(file=origin['file'], sha256=origin['sha256'], format=weights.format)
    weights.card = _with_facts({**card, 'converted_from': origin}, facts or {})
    write = _write_folder if as_folder else _write_file
    write(target, translated, to, weights)
    _compare(target, to, weights.state)
    return weights


def has_card(target: str | os.PathLike, to: str) -> bool:
    """Whether a file of this name and format has a place for more than tensors."""
    return Path(target).suffix in ('', '.safetensors') or bool(FORMATS[to].container)


def _with_facts(card: dict, facts: Mapping[str, object]) -> dict:
    unknown = facts.keys() - FACTS.keys()
    if unknown:
        raise ValueError(f'{", ".join(sorted(unknown))}: the facts of a file are {", ".join(FACTS)}')
    for name, value in facts.items():
        form = _FORMS.get(name, int)
        if not isinstance(value, form):
            raise ValueError(f'{name}={value!r} is no {form.__name__}')
        if name == 'std' and max(value, default=0) <= 1:
            raise ValueError(f'std={value!r} is a share of 255, and so is mean: give both in pixel values, 0 to 255')
        *part, key = FACTS[name]
        holder = card
        if part:
            holder = card[part[0]] = dict(card.get(part[0]) or {})
        holder[key] = value
    return card


def _write_folder(folder: Path, tensors: dict[str, Tensor], _: str, weights: Weights) -> None:
    if weights.card.get('channel_order') == 'bgr':
        raise ValueError(f'{weights.file} was trained with blue first, the images of transformers have red first')
    write_folder(folder, tensors, weights.card, img_size=said(weights.card, 'backbone', 'img_size'),
                 classes=said(weights.rest, 'meta', 'dataset_meta', 'classes'),
                 **{name: said(weights.card, *place) for name, place in FACTS.items()})


def _write_file(file: Path, tensors: dict[str, Tensor], to: str, weights: Weights) -> None:
    container = FORMATS[to].container
    if file.suffix == '.safetensors':
        save_safetensors(file, tensors, weights.card)
    else:
        # Not the storage they are a view of, nor the graph of a parameter.
        copies = {name: value.detach().clone() for name, value in tensors.items()}
        save_pth(file, {'meta': {CARD_KEY: weights.card}, container: copies} if container else copies)


def _compare(target: Path, to: str, state: Mapping[str, Tensor]) -> None:
    """Read ``target`` as anybody would: all of ``state`` is there, bit by bit."""
    written, _ = tensors_in(read_folder(target)[1] if target.is_dir() else load_file(target), str(target))
    back, _ = to_plugin(written, to)
    if content_sha256(back, {}) != content_sha256(state, {}):
        raise OSError(f'{target} does not hold what was written to it: do not use it, and look after the disk')
