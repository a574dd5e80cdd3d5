"""The names that projects give to the parameters of a masked autoencoder: one table for each, read in both directions.

Our own names are the hub: a table says how a project's names translate to those of our models (``backbone.``,
``neck.``, ``head.``), so that N formats need N tables and no script for a pair. A rule is ``(theirs, ours)``, two
templates in which ``{n}`` and ``{m}`` stand for numbers, ``{stage}`` for a number and a dot or for nothing, ``{w}`` for
``weight`` or ``bias``, ``{variant}`` for what some of timm's blocks have, and ``{rest}`` for any remainder. Where a
project keeps in three tensors what we keep in one (query, key and value), ``theirs`` is a tuple, joined along the first
dimension. In both directions the first rule that fits counts.

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

_FIELDS = {'n': r'\d+', 'm': r'\d+', 'stage': r'(?:\d+\.)?', 'w': 'weight|bias', 'rest': '.+',
           # of a block of timm's VisionTransformer beside those of a plain one: norms within attention and MLP, SwiGLU,
           # branches in parallel, differential attention
           'variant': r'(?:attn\.|mlp\.)?(?:[qk]_|in_|sub_)?norm\..+|mlp\.fc1_[gx]\..+|(?:attns|ffns)\.\d+\..+'
                      r'|(?:attn_|mlp_)?(?:in|out)_proj\..+|mlp_bias|(?:attn\.)?lambda_.+|ls\.gamma'}


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
        computed: Gives those again, by name, from the translated tensors; raises ValueError if the format cannot hold
            what is among them.
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

_TIMM = Format(mark=r'blocks\.\d+\.', rules=_ENCODER + _LAYER_SCALE + _table(
    ('head.{w}', 'head.fc.{w}'), ('reg_token', 'backbone.reg_token'), ('norm_pre.{w}', 'backbone.norm_pre.{w}'),
    ('patch_embed.norm.{w}', 'backbone.patch_embed.norm.{w}'),
    ('blocks.{n}.{variant}', 'backbone.blocks.{n}.{variant}'),
    ('attn_pool.{rest}', 'attn_pool.{rest}')))  # none of ours has one, but it is learned

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


def _vitdet_encoder(theirs: str) -> tuple[Rule, ...]:
    """Rules of detectron2's ViT; mmdet's project took over its names, which are timm's but for relative positions.

    Neither has a class token or a last norm. Those of an encoder keep timm's names there, too: both projects report
    them as unexpected and load the rest.
    """
    return _table(
        *((f'{theirs}.{name}', f'backbone.{name}')
          for name in ('cls_token', 'pos_embed', 'patch_embed.proj.{w}', 'norm.{w}')),
        *((f'{theirs}.blocks.{{n}}.attn.{table}', f'{_OUR_BLOCK}.attn.rel_pos.{table}')
          for table in ('rel_pos_h', 'rel_pos_w'))) + _block(f'{theirs}.blocks.{{n}}', _OUR_BLOCK)


def _pyramid(enlarging: tuple[str, str], conv: Callable[[int, int, int], str], weight: str, norm: str
             ) -> tuple[Rule, ...]:
    """Rules of the simple feature pyramid, each level of which ends in two convolutions with a norm.

    Args:
        enlarging: What they call the layers before these in the first two levels.
        conv: Their name of a convolution, from its level, whether it is the second one, and its place in a sequence
            in which it and its norm are one layer.
        weight: Their name of its weight.
        norm: Their name of its norm.
    """
    rules = [(f'{enlarging[level]}.{place}.{{w}}', f'neck.levels.{level}.{place}.{{w}}')
             for level, place in ((0, 0), (0, 1), (0, 3), (1, 0))]
    for level, first in enumerate((4, 1, 0, 1)):
        for second in (0, 1):
            theirs = conv(level, second, first + second)
            ours = first + 2 * second
            rules += [(f'{theirs}.{weight}', f'neck.levels.{level}.{ours}.weight'),
                      (f'{theirs}.{norm}.{{w}}', f'neck.levels.{level}.{ours + 1}.{{w}}')]
    return _table(*rules)


def _check_patches(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Refuse patches for which detectron2 would number the levels of its pyramid, by stride, otherwise."""
    patches = state.get('backbone.net.patch_embed.proj.weight')
    if patches is not None and patches.size(-1) != 16 and any(name.startswith('backbone.simfp_') for name in state):
        raise ValueError(f'the patches have {patches.size(-1)} pixels: a pyramid is written to detectron2 only for '
                         'patches of 16, which all of its ViTDet have')
    return {}


# Whole detectors. The numbers mean the same in detectron2 and, with our configs/detection/vitdet_*, in mmdet's heads:
# anchors of one scale with the ratios 0.5, 1 and 2 (height over width) around the corner of a cell, outputs ordered by
# anchor, then dx, dy, dw, dh; one objectness logit through a sigmoid; regions flattened channel by channel; classes in
# the order of the data set's ids, background last; deltas of all classes in turn, or of none (cascade), over 10, 10, 5,
# 5 (target_stds .1, .1, .2, .2) and its multiples in a cascade, whose box heads are three beside one mask head.
# What the files do not say: ours and detectron2's norms add 1e-6, while mmdet's project leaves mmcv's 1e-5.
_DETECTRON2 = Format(
    mark=r'(backbone\.)?(net\.blocks\.\d+\.|simfp_\d\.)|blocks\.\d+\.residual\.',
    rules=_vitdet_encoder('backbone.net') + _table(
        ('backbone.net.blocks.{n}.residual.{rest}', f'{_OUR_BLOCK}.residual.{{rest}}'),
        # of a file of the encoder alone
        ('backbone.blocks.{n}.residual.{rest}', f'{_OUR_BLOCK}.residual.{{rest}}')) + _vitdet_encoder('backbone')
    + _pyramid(('backbone.simfp_2', 'backbone.simfp_3'),
               lambda level, second, place: f'backbone.simfp_{level + 2}.{place}', 'weight', 'norm')
    + _table(
        ('proposal_generator.rpn_head.conv.{w}', 'rpn_head.rpn_conv.{w}'),
        ('proposal_generator.rpn_head.conv.conv{n}.{w}', 'rpn_head.rpn_conv.{n}.conv.{w}'),
        ('proposal_generator.rpn_head.objectness_logits.{w}', 'rpn_head.rpn_cls.{w}'),
        ('proposal_generator.rpn_head.anchor_deltas.{w}', 'rpn_head.rpn_reg.{w}'),
        *(pair for i in range(8) for pair in (  # they count from one
            (f'roi_heads.box_head.{{stage}}conv{i + 1}.{{w}}',
             f'roi_head.bbox_head.{{stage}}shared_convs.{i}.conv.{{w}}'),
            (f'roi_heads.box_head.{{stage}}conv{i + 1}.norm.{{w}}',
             f'roi_head.bbox_head.{{stage}}shared_convs.{i}.ln.{{w}}'),
            (f'roi_heads.box_head.{{stage}}fc{i + 1}.{{w}}', f'roi_head.bbox_head.{{stage}}shared_fcs.{i}.{{w}}'),
            (f'roi_heads.mask_head.mask_fcn{i + 1}.{{w}}', f'roi_head.mask_head.convs.{i}.conv.{{w}}'),
            (f'roi_heads.mask_head.mask_fcn{i + 1}.norm.{{w}}', f'roi_head.mask_head.convs.{i}.ln.{{w}}'))),
        ('roi_heads.box_predictor.{stage}cls_score.{w}', 'roi_head.bbox_head.{stage}fc_cls.{w}'),
        ('roi_heads.box_predictor.{stage}bbox_pred.{w}', 'roi_head.bbox_head.{stage}fc_reg.{w}'),
        ('roi_heads.mask_head.deconv.{w}', 'roi_head.mask_head.upsample.{w}'),
        ('roi_heads.mask_head.predictor.{w}', 'roi_head.mask_head.conv_logits.{w}')),
    prefix='backbone.', container='model',
    # The first two are in old files only; the last comes from the counts of the annotations, as in our FederatedLoss.
    skipped=r'pixel_(mean|std)|.*\.cell_anchors\.\d+|.*\.fed_loss_cls_weights', computed=_check_patches)

# projects/ViTDet: Mask R-CNN and Faster R-CNN. mmdet's own cascade has a mask head for each stage and averages logits,
# so ours has no place there, nor have residual convolutions. The encoder alone has the names of detectron2's. LN2d is
# no subclass of LayerNorm, so mmcv calls it norm_layer; all else of the heads is mmdet's, as with us.
_MMDET = Format(
    mark=r'neck\.fpn1\.|(backbone\.)?blocks\.\d+\.attn\.rel_pos_[hw]',
    rules=_vitdet_encoder('backbone') + _pyramid(
        ('neck.fpn1', 'neck.fpn2'),
        lambda level, second, place: f'neck.{("lateral", "fpn")[second]}_convs.{level}', 'conv.weight', 'norm_layer')
    + _table(
        *((f'roi_head.{convs}.{{n}}.norm_layer.{{w}}', f'roi_head.{convs}.{{n}}.ln.{{w}}')
          for convs in ('bbox_head.shared_convs', 'mask_head.convs')),
        *((f'{head}{{rest}}', f'{head}{{rest}}')
          for head in ('rpn_head.', 'roi_head.bbox_head.shared_', 'roi_head.bbox_head.fc_', 'roi_head.mask_head.'))),
    prefix='backbone.', container='state_dict')

# In the order in which a file is held against their marks.
FORMATS: dict[str, Format] = {
    'huggingface': _HF, 'mmseg': _MMSEG, 'mmpretrain': _MMPRETRAIN, 'detectron2': _DETECTRON2, 'mmdet': _MMDET,
    'plugin': _PLUGIN, 'authors': _AUTHORS, 'timm': _TIMM}


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
        if place is None:
            if not re.fullmatch(spec.skipped, key):
                unknown.append(key)
            continue
        rule, i, match = place
        pieces = found.setdefault(rule.ours.format_map(match.groupdict()), [None] * len(rule.pieces))
        if pieces[i] is not None:  # under two names, of which only one can be meant
            unknown.append(key)
        else:
            pieces[i] = key
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
