"""How the parts of a masked autoencoder are made: what they are given of each other, and what they are held to."""

import inspect
from collections.abc import Mapping

from timm.layers import to_2tuple
from torch import Tensor, nn

from ..registry import MODELS
from .mae_head import ReconstructionHead
from .targets import Target

# What other parts may ask for by the names of their arguments, besides pixel_mean and pixel_std.
FACTS = ('img_size', 'patch_size', 'in_chans', 'embed_dim', 'num_prefix_tokens')
_CALLS = dict(masking=('imgs', 'grid', 'data_samples'), corruption=('imgs', 'data_samples'), backbone=('imgs', 'mask'),
              neck=('latents', 'mask'))


def facts_of(backbone: nn.Module, data_preprocessor: nn.Module, cfg: dict) -> dict:
    """What the other parts may ask of a backbone, built from ``cfg``, and of the data preprocessor.

    Raises:
        ValueError: If the backbone lacks one of them.
    """
    lacking = [name for name in FACTS if not hasattr(backbone, name)]
    if lacking:
        raise ValueError(f'backbone (type={cfg["type"]!r}) has no attribute {", ".join(lacking)}: '
                         f'MaskedAutoencoder needs {", ".join(FACTS)}, for the other parts')
    facts = {name: getattr(backbone, name) for name in FACTS}
    for name in ('mean', 'std'):
        value = getattr(data_preprocessor, name, None)
        if isinstance(value, Tensor) and not value.is_meta:
            facts[f'pixel_{name}'] = value.flatten().tolist()
    return facts


def build_part(cfg: dict | None, part: str, facts: dict) -> nn.Module | None:
    """Build a part of the model with those of :func:`facts_of` that its class asks for; None where no corruption is.

    Raises:
        ValueError: If it is called in another way than such a part is.
    """
    if cfg is None and part == 'corruption':
        return None
    built = MODELS.build(_with_facts(cfg, part, facts))
    signature = inspect.signature(built.forward)
    elsewhere = tuple(signature.parameters) in (call for other, call in _CALLS.items() if other != part)
    try:
        signature.bind(*_CALLS[part])
    except TypeError:
        elsewhere = True
    if elsewhere:
        raise ValueError(f'model.{part} is a {type(built).__name__}, called as ({", ".join(signature.parameters)}): '
                         f'MaskedAutoencoder calls it as ({", ".join(_CALLS[part])}); there are '
                         + ', '.join(_known(part)))
    return built


def build_head(cfg: dict, facts: dict) -> ReconstructionHead:
    """Build the head and its target, each with those of :func:`facts_of` that its class asks for.

    Raises:
        ValueError: If one of them does not keep to its contract.
    """
    cfg = _with_facts(cfg, 'head', facts)
    if 'target' not in cfg:
        raise ValueError(f"head (type='{cfg['type']}') needs a target, "
                         f"for example target=dict(type='mae_plugin.PixelTarget')")
    head = MODELS.build(dict(cfg, target=_with_facts(cfg['target'], 'head.target', facts)))
    if not isinstance(head, ReconstructionHead):
        raise ValueError(f'head (type={cfg["type"]!r}) is no ReconstructionHead: MaskedAutoencoder calls its '
                         'loss() and loss_per_image(); derive it from mae_plugin.models.ReconstructionHead')
    if not isinstance(head.target, Target):
        raise ValueError(f'head.target (type={cfg["target"]["type"]!r}) is no Target: ReconstructionHead calls its '
                         'forward() and weights(); derive it from mae_plugin.models.Target')
    if not isinstance(getattr(head.target, 'dim', None), int):
        raise ValueError(f'head.target (type={cfg["target"]["type"]!r}) has no whole number dim: the decoder has '
                         'to know how many numbers to predict for a patch; set self.dim in its constructor')
    return head


def _with_facts(cfg: dict, part: str, facts: dict) -> dict:
    """``cfg`` with those ``facts`` that its class asks for."""
    if not isinstance(cfg, Mapping) or not cfg.get('type'):
        raise ValueError(f'model.{part}={cfg!r} names no type; there are {", ".join(_known(part))}')
    part_class = MODELS.get(cfg['type']) if isinstance(cfg['type'], str) else cfg['type']
    if part_class is None:
        raise KeyError(f"model.{part}.type='{cfg['type']}' is unknown; there are {', '.join(_known(part))}; the module "
                       'of a class of your own is named in custom_imports')
    parameters = inspect.signature(part_class).parameters
    wanted = {name: value for name, value in facts.items() if name in parameters}
    for name, value in wanted.items():
        given = cfg.get(name, value)
        if given != value and to_2tuple(given) != to_2tuple(value):
            raise ValueError(f'{part}.{name}={given} disagrees with the backbone, which says {value}: leave it out')
    return dict(cfg, **wanted)


def _known(part: str) -> list[str]:
    """Names of the registered classes that are called as ``part`` is."""
    bases = {'head': ReconstructionHead, 'head.target': Target}
    return sorted(
        f'mae_plugin.{name}' for name, known in MODELS.module_dict.items() if inspect.isclass(known)
        and (issubclass(known, bases[part]) if part in bases else not issubclass(known, Target)
             and tuple(inspect.signature(known.forward).parameters)[1:] == _CALLS[part]))
