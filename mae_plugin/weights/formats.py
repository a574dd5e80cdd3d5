"""The names that projects give to the parameters of a masked autoencoder: one table for each, read in both directions.

Our own names are the hub: a table says how a project's names translate to those of our models (``backbone.``,
``neck.``, ``head.``), so that N formats need N tables and no script for a pair. A rule is ``(theirs, ours)``, two
templates in which ``{n}`` and ``{m}`` stand for numbers, ``{w}`` for ``weight`` or ``bias`` and ``{rest}`` for any
remainder. Where a project keeps in three tensors what we keep in one (query, key and value), ``theirs`` is a tuple,
joined along the first dimension. In both directions the first rule that fits counts.

Values are never changed. Positions in particular are carried, not computed anew: mmpretrain's table has its halves
swapped, and weights that were trained with it need it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from math import isqrt
from typing import NamedTuple

import torch
from torch import Tensor

_FIELDS = {'n': r'\d+', 'm': r'\d+', 'w': 'weight|bias', 'rest': '.+'}


class Rule(NamedTuple):
    """One line of a table.

    Args:
        theirs: Template of their name, or of the names whose tensors are joined.
        ours: Template of ours.
        beside: The rule counts, from ours to theirs, only where there is a tensor whose name begins so.
    """

    theirs: str | tuple[str, ...]
    ours: str
    beside: str = ''

    @property
    def pieces(self) -> tuple[str, ...]:
        """Their templates."""
        return (self.theirs, ) if isinstance(self.theirs, str) else self.theirs


@dataclass(frozen=True)
class Format:
    """How a project names its tensors.

    Args:
        mark: Pattern of a name that only this project, and those after it in :data:`FORMATS`, would use.
        rules: The table.
        prefix: What the names of the encoder begin with; a file of the encoder alone may leave it out.
        container: The key that a ``.pth`` file has the tensors under; empty for none.
        skipped: Pattern of names that hold nothing learned.
        computed: Gives those again, by name, from the translated tensors.
    """

    mark: str
    rules: tuple[Rule, ...]
    prefix: str = ''
    container: str = ''
    skipped: str = '(?!)'
    computed: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = lambda state: {}


def _table(*pairs: tuple) -> tuple[Rule, ...]:
    return tuple(Rule(*pair) for pair in pairs)


def _block(theirs: str, ours: str, names: Mapping[str, str | tuple[str, ...]] | None = None) -> tuple[Rule, ...]:
    """Rules of a transformer block; ``names`` gives theirs for our parts where they differ."""
    names = dict.fromkeys(('norm1', 'attn.qkv', 'attn.proj', 'norm2', 'mlp.fc1', 'mlp.fc2')) | dict(names or {})
    rules = []
    for part, name in names.items():
        name = name or part
        pieces = tuple(f'{theirs}.{piece}.{{w}}' for piece in ((name, ) if isinstance(name, str) else name))
        rules.append(Rule(pieces[0] if len(pieces) == 1 else pieces, f'{ours}.{part}.{{w}}'))
    return tuple(rules)


_OUR_BLOCK = 'backbone.blocks.{n}'
_OUR_DECODER = (  # of the authors' names, to which others add a prefix
    'mask_token', 'decoder_pos_embed', 'decoder_embed.{w}', 'decoder_pred.{w}')

_ENCODER = _table(  # timm's names, the authors' and, behind a prefix, ours
    ('cls_token', 'backbone.cls_token'), ('pos_embed', 'backbone.pos_embed'),
    ('patch_embed.proj.{w}', 'backbone.patch_embed.proj.{w}'), ('norm.{w}', 'backbone.norm.{w}'),
    ('fc_norm.{w}', 'backbone.fc_norm.{w}')) + _block('blocks.{n}', _OUR_BLOCK)
_LAYER_SCALE = _table(('blocks.{n}.ls{m}.gamma', 'backbone.blocks.{n}.ls{m}.gamma'))

_AUTHORS = Format(
    mark=r'mask_token|decoder_',
    rules=_ENCODER + _table(
        ('head.0.{rest}', 'neck.bn.{rest}'),  # linear probing: a batch norm, then the classifier
        ('head.1.{w}', 'head.fc.{w}', 'neck.bn.'), ('head.{w}', 'head.fc.{w}'), ('mask_token', 'neck.mask_token'),
        ('decoder_{rest}', 'neck.decoder_{rest}')),
    container='model')

_TIMM = Format(mark=r'blocks\.\d+\.', rules=_ENCODER + _LAYER_SCALE + _table(('head.{w}', 'head.fc.{w}')))

_PLUGIN = Format(mark=r'backbone\.blocks\.\d+\.', rules=_table(('{rest}', '{rest}')), container='state_dict')


_MM_BLOCK = {'norm1': 'ln1', 'norm2': 'ln2', 'mlp.fc1': 'ffn.layers.0.0', 'mlp.fc2': 'ffn.layers.1'}
_MM_ENCODER = _table(
    ('backbone.cls_token', 'backbone.cls_token'), ('backbone.pos_embed', 'backbone.pos_embed'),
    ('backbone.patch_embed.projection.{w}', 'backbone.patch_embed.proj.{w}'),
    ('backbone.ln1.{w}', 'backbone.norm.{w}')) + _block('backbone.layers.{n}', _OUR_BLOCK, _MM_BLOCK)

_MMPRETRAIN = Format(
    mark=r'(backbone\.)?(layers\.\d+\.ln1|patch_embed\.projection)\.',
    rules=_MM_ENCODER + _block('neck.decoder_blocks.{n}', 'neck.decoder_blocks.{n}', _MM_BLOCK) + _table(
        ('backbone.ln2.{w}', 'backbone.fc_norm.{w}'),
        ('backbone.layers.{n}.attn.gamma1.weight', 'backbone.blocks.{n}.ls1.gamma'),
        ('backbone.layers.{n}.ffn.gamma2.weight', 'backbone.blocks.{n}.ls2.gamma'),
        *((f'neck.{name}', f'neck.{name}') for name in _OUR_DECODER),
        ('neck.ln1.{w}', 'neck.decoder_norm.{w}'), ('neck.bn.{rest}', 'neck.bn.{rest}'),
        ('head.fc.{w}', 'head.fc.{w}'), ('head.layers.head.{w}', 'head.fc.{w}')),
    prefix='backbone.', container='state_dict')


def _relative_position_index(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """BEiT's lookup table, (1 + L, 1 + L), beside each table of biases: which row holds the bias of a pair of tokens.

    Class token to patch, patch to class token and class token to itself are the last three rows.
    """
    found = {}
    for name, table in state.items():
        if name.endswith('.relative_position_bias_table'):
            side = (isqrt(table.size(0) - 3) + 1) // 2
            if table.size(0) != (2 * side - 1) ** 2 + 3:
                raise ValueError(f'{name} has {table.size(0)} rows, which no square grid with a class token has: '
                                 "mmseg's MAE has no other")
            rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing='ij')
            place = torch.stack([rows, columns]).flatten(1)
            offset = place[:, :, None] - place[:, None, :] + side - 1
            index = torch.zeros(1 + side * side, 1 + side * side, dtype=torch.int64)
            index[1:, 1:] = offset[0] * (2 * side - 1) + offset[1]
            index[0, :], index[:, 0] = table.size(0) - 3, table.size(0) - 2
            index[0, 0] = table.size(0) - 1
            found[name.replace('_bias_table', '_index')] = index
    return found


_MMSEG = Format(
    mark=r'(backbone\.)?layers\.\d+\.(gamma_1|attn\.relative_position)',
    rules=_MM_ENCODER + _table(
        ('backbone.layers.{n}.gamma_{m}', 'backbone.blocks.{n}.ls{m}.gamma'),
        ('backbone.layers.{n}.attn.relative_position_bias_table', 'backbone.blocks.{n}.attn.rel_pos.table'),
        *((f'{part}.{{rest}}', f'{part}.{{rest}}') for part in ('decode_head', 'auxiliary_head')),
        ('neck.upsample_{rest}', 'neck.upsample_{rest}')),
    prefix='backbone.', container='state_dict', skipped=r'.*\.relative_position_index',
    computed=_relative_position_index)

_QKV = ('query', 'key', 'value')
_HF_BLOCK = {  # of the files
    'norm1': 'layernorm_before', 'attn.qkv': tuple(f'attention.attention.{part}' for part in _QKV),
    'attn.proj': 'attention.output.dense', 'norm2': 'layernorm_after', 'mlp.fc1': 'intermediate.dense',
    'mlp.fc2': 'output.dense'}
_HF_5_BLOCK = {  # of the modules of transformers 5, which renames them when it reads or writes a file
    'norm1': 'layernorm_before', 'attn.qkv': tuple(f'attention.{part[0]}_proj' for part in _QKV),
    'attn.proj': 'attention.o_proj', 'norm2': 'layernorm_after'}
_HF = Format(
    mark=r'(vit\.)?embeddings\.patch_embeddings\.',
    rules=_table(
        ('vit.embeddings.cls_token', 'backbone.cls_token'),
        ('vit.embeddings.position_embeddings', 'backbone.pos_embed'),
        ('vit.embeddings.patch_embeddings.projection.{w}', 'backbone.patch_embed.proj.{w}'),
        ('vit.layernorm.{w}', 'backbone.norm.{w}'), ('classifier.{w}', 'head.fc.{w}'),
        ('vit.pooler.dense.{w}', 'pooler.dense.{w}'),  # of ViTModel; none of ours has one, but it is learned
        *((f'decoder.{name}', f'neck.{name}') for name in _OUR_DECODER),
        ('decoder.decoder_norm.{w}', 'neck.decoder_norm.{w}'))
    + _block('vit.encoder.layer.{n}', _OUR_BLOCK, _HF_BLOCK) + _block('vit.layers.{n}', _OUR_BLOCK, _HF_5_BLOCK)
    + _block('decoder.decoder_layers.{n}', 'neck.decoder_blocks.{n}', _HF_BLOCK)
    # transformers 5 writes the decoder's layers so, which 4 does not read: both read the names above
    + _block('decoder.decoder_encoder.layer.{n}', 'neck.decoder_blocks.{n}', _HF_BLOCK)
    + _block('decoder.decoder_layers.{n}', 'neck.decoder_blocks.{n}', _HF_5_BLOCK),
    prefix='vit.')

# In the order in which a file is held against their marks.
FORMATS: dict[str, Format] = {
    'huggingface': _HF, 'mmseg': _MMSEG, 'mmpretrain': _MMPRETRAIN, 'plugin': _PLUGIN, 'authors': _AUTHORS,
    'timm': _TIMM}


def recognise(names: Mapping[str, Tensor], container: str = '') -> str | None:
    """The format that tensors of these ``names`` are in, or None.

    The authors' files of an encoder and timm's have the same names: what is under the key ``model`` is the authors'.
    """
    for name, spec in FORMATS.items():
        if any(re.match(spec.mark, key) for key in names):
            return 'authors' if name == 'timm' and container == 'model' else name
    return None


@cache
def _pattern(template: str) -> re.Pattern:
    return re.compile(re.sub(
        r'\\\{(\w+)\\\}', lambda field: f'(?P<{field[1]}>{_FIELDS[field[1]]})', re.escape(template)))


def to_plugin(state: Mapping[str, Tensor], name: str) -> tuple[dict[str, Tensor], list[str]]:
    """Translate tensors from their names in the format ``name`` to those of our models.

    Returns:
        Tensors by our names, and their names for which there is no rule, or no complete set of pieces.
    """
    spec = FORMATS[name]
    if spec.prefix and not any(key.startswith(spec.prefix) for key in state):
        return to_plugin({spec.prefix + key: value for key, value in state.items()}, name)
    found: dict[str, list] = {}  # our name: the names of its pieces
    unknown = []
    for key in state:
        place = next(((rule, i, match) for rule in spec.rules for i, piece in enumerate(rule.pieces)
                      if (match := _pattern(piece).fullmatch(key))), None)
        if place is not None:
            rule, i, match = place
            ours = rule.ours.format_map(match.groupdict())
            found.setdefault(ours, [None] * len(rule.pieces))[i] = key
        elif not re.fullmatch(spec.skipped, key):
            unknown.append(key)
    translated = {}
    for ours, keys in found.items():
        if None in keys:
            unknown += [key for key in keys if key is not None]
        else:
            translated[ours] = state[keys[0]] if len(keys) == 1 else torch.cat([state[key] for key in keys])
    return translated, unknown


def from_plugin(state: Mapping[str, Tensor], name: str) -> tuple[dict[str, Tensor], list[str]]:
    """Translate tensors from the names of our models to those of the format ``name``; the inverse of :func:`to_plugin`.

    Returns:
        Tensors by their names, and our names that the format has no place for.
    """
    spec = FORMATS[name]
    translated, homeless = {}, []
    for key, value in state.items():
        place = next(((rule, match) for rule in spec.rules if (match := _pattern(rule.ours).fullmatch(key))
                      and (not rule.beside or any(other.startswith(rule.beside) for other in state))), None)
        if place is None:
            homeless.append(key)
            continue
        rule, match = place
        theirs = [piece.format_map(match.groupdict()) for piece in rule.pieces]
        pieces = [value] if len(theirs) == 1 else [piece.clone() for piece in value.chunk(len(theirs))]
        translated.update(zip(theirs, pieces, strict=True))
    return translated | spec.computed(translated), homeless
