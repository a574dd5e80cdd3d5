"""The weights of any file under the names of our models, checked as far as a file alone can be."""

import argparse
import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..utils.hashing import file_sha256
from .files import CARD_KEY
from .formats import FORMATS, recognise, to_plugin
from .huggingface import card_of_config, is_folder, read_folder
from .safe_load import load_file, safetensors_metadata

TIMM = 'timm://'
_CONTAINERS = ('state_dict', 'model')
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_BLOCK = tuple(f'{part}.{w}' for part in ('norm1', 'attn.qkv', 'attn.proj', 'norm2', 'mlp.fc1', 'mlp.fc2')
               for w in ('weight', 'bias'))
_ENCODER = ('backbone.blocks', ('backbone.patch_embed.proj.weight', 'backbone.patch_embed.proj.bias',
                                'backbone.pos_embed'))
_VARIANT = (_ENCODER[0], ('backbone.patch_embed.proj.weight', 'backbone.pos_embed'))  # of timm's
_DECODER = ('neck.decoder_blocks', ('neck.mask_token', 'neck.decoder_pos_embed', *(
    f'neck.decoder_{part}.{w}' for part in ('embed', 'norm', 'pred') for w in ('weight', 'bias'))))
_OF_MAE = {*_DECODER[1], *(f'neck.decoder_blocks.{part}' for part in _BLOCK)}


@dataclass
class Weights:
    """What a file holds.

    Args:
        file: Its path as given, or ``timm://NAME``.
        format: Whose names it has, a key of :data:`~mae_plugin.weights.formats.FORMATS`.
        state: Tensors by the names of our models: ``backbone.``, ``neck.`` (decoder), ``head.`` and so on.
        unknown: The file's names that its format has no meaning for.
        card: What it says of itself, see :mod:`mae_plugin.weights.card`; None if nothing.
        place: The file itself; a folder's, or the index of its shards; None for timm.
        sha256: Of ``place``.
        rest: What else is in it, beside the tensors.
    """

    file: str
    format: str
    state: dict[str, Tensor]
    unknown: list[str]
    card: dict | None
    place: Path | None
    sha256: str | None
    rest: dict

    @property
    def lost_of_decoder(self) -> list[str]:
        """What a decoder of MAE has and this one has not: none for a file without one, or with one of another type."""
        return _lost(self.state, *_DECODER) if self.kind == 'pretraining' and not self.other_decoder else []

    @property
    def other_decoder(self) -> str | None:
        """What the decoder is, as far as the card or a name tells, where it is not that of MAE; else None."""
        kind = said(self.card, 'decoder', 'type') or 'MAEDecoder'
        if self.kind != 'pretraining':
            return None
        if kind != 'MAEDecoder':
            return str(kind)
        names = [name for name in self.state if name.startswith('neck.')]
        return next((f'a decoder with {name}' for name in names if re.sub(r'\.\d+\.', '.', name) not in _OF_MAE), None)

    @property
    def others(self) -> list[str]:
        """Keys of other weights in the file, which were not taken: say, of timm's moving average."""
        return [str(key) for key, value in self.rest.items()
                if isinstance(value, dict) and any(isinstance(item, Tensor) for item in value.values())]

    @property
    def kind(self) -> str:
        """``pretraining``, ``encoder``, ``classification``, ``detection`` or ``segmentation``."""
        return kind_of(self.state)

    def check_known(self) -> None:
        """Check that every tensor has a meaning here.

        Raises:
            ValueError: Some have none.
        """
        if self.unknown:
            raise ValueError(f'{self.file} holds tensors that the format {self.format} has no meaning for '
                             f'({shorten(self.unknown)}): it is not only a plain ViT, or damaged')


def kind_of(names: Collection[str]) -> str:
    """:attr:`Weights.kind` of tensors by our names."""
    parts = {name.partition('.')[0] for name in names}
    for part, kind in (('decode_head', 'segmentation'), ('roi_head', 'detection'), ('rpn_head', 'detection'),
                       ('bbox_head', 'detection'), ('head', 'classification')):
        if part in parts:
            return kind
    if 'backbone.fc_norm.weight' in names:
        return 'classification'
    return 'pretraining' if any(name.startswith('neck.decoder_') for name in names) else 'encoder'


def read_weights(path: str | os.PathLike, plain: bool = True) -> Weights:
    """Read the weights of a file of any of our formats, of a folder of transformers', or of ``timm://NAME``.

    Args:
        path: Of the file or folder.
        plain: Hold the encoder against the parts of a :class:`~mae_plugin.models.PlainViT`, unless the file says that
            it is of a :class:`~mae_plugin.models.TimmViT`, whose blocks may have others.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no checkpoint or damaged, holds another model, lacks part of the encoder, or holds numbers
            that are not finite. The message names the file, what was expected and what was found.
    """
    file = str(path)
    if file.startswith(TIMM):
        tensors, card, name, place, rest = *_from_timm(file), 'timm', None, {}
    else:
        folder = Path(file).expanduser()
        tensors, card, container, place, rest = _from_folder(folder) if is_folder(folder) else _from_file(file)
        name = recognise(tensors, container)
    if name is None:
        raise ValueError(f'{file} holds another model: none of its tensors ({shorten(list(tensors))}) is of a block of '
                         f'a plain ViT, which is expected, by the names of {", ".join(FORMATS)}')
    state, unknown = to_plugin(tensors, name)
    check_finite(state, file)
    plain = plain and said(card, 'backbone', 'type') != 'TimmViT'
    _check_encoder(state, file, unknown, said(card, 'backbone', 'depth'), plain)
    return Weights(file, name, state, unknown, card, place, None if place is None else file_sha256(place), rest)


def tensors_in(content: object, file: str) -> tuple[dict[str, Tensor], str]:
    """The tensors of what :func:`load_file` read, and the key they are under (empty for none).

    Raises:
        ValueError: There are none, or some of the numbers there are no plain tensors, each under a name of its own.
    """
    container = next((key for key in _CONTAINERS if isinstance(content, dict)
                      and isinstance(content.get(key), dict)), '')
    state = content[container] if container else content
    tensors, odd = {}, []
    for key, value in state.items() if isinstance(state, dict) else ():
        name = re.sub(r'^((module|_orig_mod)\.)+', '', str(key))  # of DDP and torch.compile
        if isinstance(value, Tensor) and isinstance(key, str) and name not in tensors and _is_plain(value):
            tensors[name] = value
        elif isinstance(value, (Tensor, np.ndarray)) or container and isinstance(value, dict) and value:
            odd.append(str(key))
    if odd and tensors:
        raise ValueError(f'{file} is no plain state dict: under {shorten(odd)} it holds what is no dense '
                         'tensor of real numbers under a name of its own: save model.state_dict() as it is')
    if not tensors:
        raise ValueError(f"{file} holds no model: neither a state dict, nor one under 'state_dict' or 'model'"
                         + (f'; it has {shorten(sorted(map(str, content)))}' if isinstance(content, dict) else ''))
    return tensors, container


def _is_plain(value: Tensor) -> bool:
    whole = not (value.is_floating_point() or value.is_complex() or value.is_quantized)
    return value.layout == torch.strided and not value.is_meta and (whole or value.dtype in _FLOATS)


def _from_file(path: str) -> tuple[dict[str, Tensor], dict | None, str, Path, dict]:
    content = load_file(path)
    tensors, container = tensors_in(content, path)
    rest = {key: value for key, value in content.items()
            if (key != container if container else not isinstance(value, Tensor))}
    return tensors, card_of(content, path), container, Path(path).expanduser(), rest


def card_of(content: object, path: str | os.PathLike) -> dict | None:
    """The card (see :mod:`mae_plugin.weights.card`) of a file, ``content`` being what was read; None without one.

    Raises:
        ValueError: What is there has another form.
    """
    path = Path(path).expanduser()
    if path.suffix == '.safetensors':
        try:
            card = json.loads(safetensors_metadata(path).get(CARD_KEY, 'null'))
        except (ValueError, RecursionError) as error:
            raise ValueError(f'{path} says nothing that can be read under {CARD_KEY}: it is no JSON') from error
    else:
        card = said(content, 'meta', CARD_KEY)
    if not isinstance(card, dict):
        return _card_of_authors(content)
    forms = dict(backbone=dict, decoder=dict, target=dict, masking=dict, converted_from=dict, parents=list)
    wrong = [name for name, form in forms.items() if not isinstance(card.get(name) or form(), form)]
    grid = said(card, 'backbone', 'grid')
    if wrong or grid is not None and not (isinstance(grid, list) and [type(side) for side in grid] == [int, int]):
        raise ValueError(f'{path} says of itself, under {CARD_KEY}, what has another form than ours: '
                         f'{", ".join(wrong) or "backbone.grid"}')
    return card


def _card_of_authors(content: object) -> dict | None:
    """What the arguments say that the authors' pretraining script leaves in its checkpoints."""
    args = said(content, 'args')
    norm_pix, mask_ratio = (getattr(args, name, None) for name in ('norm_pix_loss', 'mask_ratio'))
    if not isinstance(args, argparse.Namespace) or type(norm_pix) is not bool or type(mask_ratio) is not float:
        return None
    return dict(target=dict(norm_pix=norm_pix), masking=dict(mask_ratio=mask_ratio))


def _from_folder(folder: Path) -> tuple[dict[str, Tensor], dict | None, str, Path, dict]:
    file, tensors, config = read_folder(folder)
    card = card_of(tensors, file) or {}
    # The configs are what transformers goes by, so they are believed; the file tells more, if it is ours.
    for key, value in card_of_config(config, str(folder)).items():
        card[key] = {**(card.get(key) or {}), **value} if isinstance(value, dict) else value
    return tensors_in(tensors, str(file))[0], card, '', file, {}


def _from_timm(address: str) -> tuple[dict[str, Tensor], dict]:
    """State dict of a pretrained model of timm, and what its configuration says, as a card."""
    import timm

    from ..models.timm_vit import facts_of_blocks
    name = address.removeprefix(TIMM)
    try:
        model = timm.create_model(name, pretrained=True)
    except Exception as error:  # no such model, or no network: timm and the hub have many classes for these
        near = ', '.join(timm.list_pretrained(f'{name.partition("_patch")[0]}*')[:5])
        raise ValueError(f'{address}: timm gives no weights: {str(error).partition(chr(10))[0]}'
                         + (f'; among its models are {near}' if near else '')) from error
    if not isinstance(model, timm.models.VisionTransformer):
        raise ValueError(f'{address} is a {type(model).__name__}; a VisionTransformer is expected')
    given = model.pretrained_cfg
    card = dict(mean=[255 * value for value in given['mean']], std=[255 * value for value in given['std']],
                channel_order='rgb', backbone=dict(type='TimmViT', **facts_of_blocks(model.blocks)))
    return model.state_dict(), card


def check_finite(state: Mapping[str, Tensor], file: str) -> None:
    """Check that all numbers are finite.

    Raises:
        ValueError: Some are not; the message has the first tensor, and how many.
    """
    # A sum is finite only if all of its terms are, and ten times as fast; it may also overflow.
    broken = {name: int((~value.isfinite()).sum()) for name, value in state.items()
              if not value.sum().isfinite() and not value.isfinite().all()}
    if broken:
        name = next(iter(broken))
        raise ValueError(f'{file} holds NaN or infinite numbers in {len(broken)} of its {len(state)} tensors (the '
                         f'first: {broken[name]} of {state[name].numel()} in {name}): the run that wrote it had '
                         'diverged; take an earlier checkpoint')


def _check_encoder(state: Mapping[str, Tensor], file: str, unknown: list[str], depth: int | None, plain: bool) -> None:
    """Check that the encoder is whole: ``depth`` blocks, if that is known, of one width and of real numbers."""
    lost = _lost(state, *_ENCODER) if plain else _lost(state, *_VARIANT, block=())
    if lost:
        raise ValueError(f'{file} lacks part of its encoder: {shorten(lost)}'
                         + (f'; it holds {shorten(unknown)}, which no plain ViT has' if unknown else ''))
    blocks = _blocks(state, _ENCODER[0])
    if depth not in (None, len(blocks)):
        raise ValueError(f'{file} holds {len(blocks)} blocks of the {depth} that it says it has')
    for name in blocks['0']:
        shapes = {tuple(block[name].shape) for block in blocks.values()}
        if len(shapes) > 1:
            raise ValueError(f'{file} holds blocks of several sizes: {name} is {" and ".join(map(str, shapes))}')
    width = state['backbone.pos_embed'].shape[-1:]
    shapes = {'pos_embed': (1, ..., *width), 'patch_embed.proj.weight': (*width, ..., ..., ...)}
    if plain:
        hidden = blocks['0']['mlp.fc1.weight'].shape[:1]
        shapes |= {'blocks.0.norm1.weight': (*width, ), 'blocks.0.attn.qkv.weight': (*(3 * i for i in width), *width),
                   'blocks.0.mlp.fc1.weight': (*hidden, *width), 'blocks.0.mlp.fc2.weight': (*width, *hidden)}
    for name, value in state.items():
        shape = shapes.get(name.removeprefix('backbone.'), value.shape)
        if not value.numel() or len(shape) != value.dim() or any(
                side not in (..., found) for side, found in zip(shape, value.shape, strict=True)):
            raise ValueError(f'{file} holds {name} of the size {tuple(value.shape)}, which no plain ViT has')
        if name.startswith(('backbone.', 'neck.decoder_')) and value.dtype not in _FLOATS:
            raise ValueError(f'{file} holds {name} as {value.dtype}, as no model is trained: numbers of 16, 32 or 64 '
                             'bits with a fraction are expected')


def _blocks(state: Mapping[str, Tensor], stack: str) -> dict[str, dict[str, Tensor]]:
    """Tensors of each block by its number, without those that not all blocks have, or have in one size."""
    blocks: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        match = re.fullmatch(rf'{re.escape(stack)}\.([^.]+)\.(?!residual\.|attn\.rel_pos\.)(.+)', name)
        if match:
            blocks.setdefault(match[1], {})[match[2]] = value
    return blocks


def _lost(state: Mapping[str, Tensor], stack: str, around: tuple[str, ...],
          block: tuple[str, ...] = _BLOCK) -> list[str]:
    """What a whole stack would have: what is ``around`` it, and in each block ``block`` and what is in any."""
    blocks = _blocks(state, stack)
    parts = dict.fromkeys([*block, *(name for block in blocks.values() for name in block)])
    numbers = map(str, range(max(1, len(blocks))))
    return [name for name in around if name not in state] + [
        f'{stack}.{i}.{name}' for i in numbers for name in parts if name not in blocks.get(i, {})]


def said(holder: object, *keys: str) -> Any:
    """What dicts in each other, as a card is, have under ``keys``; None where they have not."""
    for key in keys:
        holder = holder.get(key) if isinstance(holder, dict) else None
    return holder


def shorten(names: list[str], shown: int = 4) -> str:
    """``a, b, c, d and 20 more``."""
    return ', '.join(names[:shown]) + (f' and {len(names) - shown} more' if len(names) > shown else '')
