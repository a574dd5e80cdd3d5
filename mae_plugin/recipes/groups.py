"""Who is trained, who is decayed, and the learning rate of each layer: read from the optimizer that a config builds."""

import copy
from collections import Counter, defaultdict

import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn
from torch.overrides import TorchFunctionMode

_EMBEDDINGS = ('cls_token', 'patch_embed')


class _WithoutMemory(TorchFunctionMode):
    """Makes what ``torch.empty`` makes, and so the weights of every layer, without memory: a ViT-H takes a second.

    Not ``torch.device('meta')``, under which models that compute a drop path rate by ``linspace(...).item()`` fail.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.empty and kwargs.get('device') is None:
            kwargs['device'] = 'meta'
        return func(*args, **kwargs)


def build_model(cfg) -> nn.Module:
    """The model of a config, with weights that take no memory and have no values."""
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')), _WithoutMemory():
        return MODELS.build(copy.deepcopy(cfg.model))


def group_facts(cfg, model: nn.Module) -> dict[str, object]:
    """What the optimizer of ``cfg`` does to each parameter of ``model``.

    Returns:
        ``weight decay of KIND``: yes, no, or how many of them; ``layer decay``: the rate if the multiplier of every
        parameter is ``rate ** (layers above it)``, else the multipliers found; ``trained``: which parts are.
    """
    wrapper = copy.deepcopy(cfg.optim_wrapper)
    wrapper = {key: wrapper[key] for key in ('optimizer', 'constructor', 'paramwise_cfg') if key in wrapper}
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        optimizer = build_optim_wrapper(model, dict(wrapper, type='OptimWrapper')).optimizer
    settings = {id(p): group for group in optimizer.param_groups for p in group['params']}
    lr, weight_decay = wrapper['optimizer']['lr'], wrapper['optimizer'].get('weight_decay', 0.)
    decayed, multipliers, depth = defaultdict(Counter), defaultdict(set), _depth(model)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) in settings:
            group = settings[id(parameter)]
            share = group['weight_decay'] / weight_decay if weight_decay else 0.
            decayed[_kind(name, parameter, model)][share] += 1
            multipliers[layer_of(name, depth)].add(round(group['lr'] / lr, 12))
    facts = {f'weight decay of {kind}': _shares(found) for kind, found in decayed.items()} if weight_decay else {}
    return dict(facts, **{'layer decay': _layer_decay(multipliers, depth), 'trained': _trained(model, depth)})


def _kind(name: str, parameter: nn.Parameter, model: nn.Module) -> str:
    """What a parameter is, for weight decay, in words that hold for every library's names."""
    owner, last = model.get_submodule(name.rpartition('.')[0]), name.rpartition('.')[2]
    owner_type = type(owner).__name__
    tokens = {'cls_token': 'the class token', 'mask_token': 'the mask token', 'pos_embed': 'the position embedding'}
    if last in tokens:
        return tokens[last]
    if 'rel_pos' in name or 'relative_position' in name:
        return 'relative position'
    if 'gamma' in last:
        return 'layer scale'
    if 'Norm' in owner_type or owner_type in ('LN2d', ):
        return 'norms of the encoder' if name.startswith('backbone.') else 'other norms'
    return 'biases' if parameter.ndim <= 1 else 'weights'


def _shares(found: Counter) -> str:
    if len(found) == 1:
        share = next(iter(found))
        return {0.: 'no', 1.: 'yes'}.get(share, f'times {share:g}')
    return f'{sum(found.values()) - found[0.]} of {sum(found.values())} tensors'


def layer_of(name: str, depth: int) -> int:
    """0 for the embeddings, i + 1 for block i of the encoder, ``depth + 1`` for everything else.

    That is also where detectron2 puts the convolutions between windows.
    """
    if not name.startswith('backbone.') or '.residual.' in name:
        return depth + 1
    first, _, rest = name.removeprefix('backbone.').partition('.')
    if first in ('pos_embed', *_EMBEDDINGS):
        return 0
    return int(rest.partition('.')[0]) + 1 if first in ('blocks', 'layers') else depth + 1


def _depth(model: nn.Module) -> int:
    backbone = getattr(model, 'backbone', None)
    return len(getattr(backbone, 'blocks', None) or getattr(backbone, 'layers', ()))


def _layer_decay(multipliers: dict[int, set[float]], depth: int) -> object:
    """The rate that explains every multiplier, 1 for none; or what was found."""
    known = {layer: next(iter(found)) for layer, found in multipliers.items() if len(found) == 1}
    lowest = min(known, default=0)
    above = depth + 1 - lowest
    rate = known[lowest] ** (1 / above) if above and known else 1.
    if len(known) == len(multipliers) and all(
            abs(mult - rate ** (depth + 1 - layer)) < 1e-6 * mult for layer, mult in known.items()):
        return round(rate, 6)
    return {layer: sorted(found) for layer, found in sorted(multipliers.items())}


def _trained(model: nn.Module, depth: int) -> str:
    """Which parts are trained, in words."""
    parts = defaultdict(list)
    for name, parameter in model.named_parameters():
        layer, last = layer_of(name, depth), name.rpartition('.')[2]
        if last in ('pos_embed', 'decoder_pos_embed'):
            part = 'positions'
        elif 0 < layer <= depth:
            part = f'block {layer - 1}'
        elif name.startswith('backbone.'):
            part = 'embeddings' if layer == 0 else 'final norm'
        else:
            part = 'what follows the encoder'
        parts[part].append(parameter.requires_grad)
    frozen = [part for part, flags in parts.items() if not any(flags)]
    if not frozen and all(map(all, parts.values())):
        return 'everything'
    trained = [part if all(flags) else f'part of {part}' for part, flags in parts.items() if any(flags)]
    return f'all but {", ".join(frozen)}' if len(frozen) < len(trained) and all(
        all(parts[part]) for part in parts if part not in frozen) else ', '.join(trained)
