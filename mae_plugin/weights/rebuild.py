"""A masked autoencoder from its checkpoint alone."""

import inspect
import os
from collections.abc import Mapping
from typing import Any

from ..models import MAEPretrained, MaskedAutoencoder, Masking
from ..models.assembly import FACTS
from ..models.resize import grid_of
from ..registry import IN_LIBRARIES, MODELS
from .card import disagreements, make_card
from .checkpoint import Weights, read_weights, said

IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
# Of the published models by width; no tensor tells them.
_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}
_DECODER_HEADS = {512: 16}


def load_autoencoder(file: str | os.PathLike, cfg: Mapping | None = None, norm_pix: bool | None = None,
                     mask_ratio: float | None = None, masking: str | None = None) -> MaskedAutoencoder:
    """Encoder, decoder, target and mask as in pretraining, in eval mode on the CPU.

    What the model is, is read from the card of the file as data, and made of parts of this plugin alone: no text of
    the file is executed. A file without a card, as the authors' or transformers', is measured; its images are taken to
    be normalised with ImageNet's mean and standard deviation unless it says otherwise.

    Args:
        file: A checkpoint of pretraining, of any format.
        cfg: The config of its run, for a file that does not say enough, or has parts of a user's own.
        norm_pix: Whether the targets were normalised, for a file that does not say so.
        mask_ratio: Another share of hidden patches than in pretraining.
        masking: Another masking, a type that needs no argument but the ratio.

    Raises:
        FileNotFoundError: There is no such file.
        KeyError: There is no such masking.
        ValueError: It cannot reconstruct; the message says why, and what could.
    """
    weights = read_weights(file)
    if weights.kind != 'pretraining':
        what = ('an encoder alone' if weights.kind == 'encoder' else f'a model that was fine-tuned for {weights.kind}')
        raise ValueError(f"{file} holds {what}, and only pretraining's decoder predicts pixels: take the checkpoint "
                         "that pretraining saved (of the authors', one named _full or visualize)")
    told = said(weights.card, 'target', 'norm_pix')
    if norm_pix is not None and told is not None and norm_pix != told:
        raise ValueError(f'{file} says of its target norm_pix={told}: leave out --norm-pix and --raw')
    if cfg is not None:
        described = _without_init(cfg['model'])
    elif said(weights.card, 'config', 'model') is not None:
        described = _only_ours(weights.card['config']['model'], str(file))
    else:
        described = _measured(weights, told if norm_pix is None else norm_pix)
    if mask_ratio is not None or masking is not None:
        described['masking'] = _other_masking(described['masking'], mask_ratio, masking)
    _check_target(described, str(file))
    model = MODELS.build(described)
    if cfg is not None and (found := disagreements(weights.card or {}, make_card(model, cfg))):
        raise ValueError(f'{file} is of another run than the config: {"; ".join(found.values())}')
    MAEPretrained(str(file))(model)
    return model.eval()


def _without_init(cfg: Any) -> Any:
    """``cfg`` without what its parts start from."""
    if isinstance(cfg, Mapping):
        return {key: _without_init(value) for key, value in cfg.items() if key != 'init_cfg'}
    return [_without_init(value) for value in cfg] if isinstance(cfg, list | tuple) else cfg


def _only_ours(cfg: Any, file: str) -> Any:
    """The model's config of a card, with every type checked: MMEngine would import and call whatever it names.

    It would also import the ``registry`` of any package that a ``_scope_`` names.
    """
    if isinstance(cfg, list | tuple):
        return [_only_ours(value, file) for value in cfg]
    if not isinstance(cfg, Mapping):
        return cfg
    cfg = {key: _only_ours(value, file) for key, value in cfg.items() if key not in ('init_cfg', '_scope_')}
    if 'type' in cfg:
        name = str(cfg['type']).removeprefix('mae_plugin.')
        if name in IN_LIBRARIES:
            MODELS.get(name)
        MODELS.import_from_location()
        if name not in MODELS.module_dict:
            raise ValueError(f"{file} says that its model has a {cfg['type']!r}, which is no part of this plugin: give "
                             'the config of its run by --config')
        cfg['type'] = f'mae_plugin.{name}'
    return cfg


def _other_masking(cfg: Mapping, mask_ratio: float | None, kind: str | None) -> dict:
    """A masking's config with another ratio or type."""
    name = cfg['type'] if kind is None else kind if '.' in kind else f'mae_plugin.{kind}'
    part = MODELS.get(name)
    if part is None:
        return dict(type=name)  # the model says what there is
    parameters = inspect.signature(part).parameters
    has_ratio = issubclass(part, Masking) and bool(parameters.keys() & {'mask_ratio', 'kwargs'})
    if mask_ratio is not None and not has_ratio:
        raise ValueError(f'--mask-ratio {mask_ratio}: {part.__name__} has no ratio to set, what it hides is given')
    if kind is None:
        given = dict(cfg)
    else:
        given = dict(type=name) | ({'mask_ratio': cfg['mask_ratio']} if has_ratio and 'mask_ratio' in cfg else {})
    filled_in = (*FACTS, 'pixel_mean', 'pixel_std', 'mask_ratio')
    lacking = [key for key, value in parameters.items() if value.default is value.empty and key not in given
               and key not in filled_in and value.kind is value.POSITIONAL_OR_KEYWORD]
    if lacking:
        raise ValueError(f'--masking {kind} needs {", ".join(lacking)}, which only a config says: give one by --config')
    return given if mask_ratio is None else dict(given, mask_ratio=mask_ratio)


def _check_target(described: Mapping, file: str) -> None:
    """Refuse a target without pixels before it is built: it may need files that are not at hand."""
    kind = said(described, 'head', 'target', 'type')
    target = MODELS.get(kind) if isinstance(kind, str) else kind
    if target is not None and not getattr(target, 'invertible', False):
        raise ValueError(f'{file} predicts a {target.__name__}, which cannot be turned back into pixels: there is '
                         'nothing to reconstruct; tools/browse_dataset.py CONFIG shows what the model sees')


def _measured(weights: Weights, norm_pix: bool | None) -> dict:
    """The model of a file without a config, by its tensors and what its card tells."""
    state, card, file = weights.state, weights.card, weights.file
    if norm_pix is None:
        raise ValueError(f"{file} does not say whether its targets were normalised: give --norm-pix (the authors' "
                         'mae_pretrain_*_full.pth) or --raw (their mae_visualize_*.pth)')
    filters, positions = state['backbone.patch_embed.proj.weight'], state['backbone.pos_embed']
    grid = grid_of(positions.size(1) - 1, said(card, 'backbone', 'grid'))
    width, decoder_width = positions.size(2), state['neck.decoder_embed.weight'].size(0)
    heads = said(card, 'backbone', 'num_heads') or _HEADS.get(width)
    decoder_heads = said(card, 'decoder', 'decoder_num_heads') or _DECODER_HEADS.get(decoder_width)
    colours = {name: said(card, name) or values for name, values in IMAGENET.items()}
    if None in (grid, heads, decoder_heads) or len(colours['mean']) != filters.size(1):
        raise ValueError(f'{file} does not say enough of itself (the grid of its patches, the heads of its attention, '
                         'mean and std of its channels): give the config of its run by --config')

    def blocks(stack: str) -> int:
        return sum(name.startswith(stack) and name.endswith('.norm1.weight') for name in state)

    def mlp_ratio(stack: str, width: int) -> float:
        return state[f'{stack}.0.mlp.fc1.weight'].size(0) / width

    patch_size = tuple(filters.shape[2:])
    return dict(
        type='mae_plugin.MaskedAutoencoder',
        backbone=dict(
            type='mae_plugin.PlainViT', img_size=tuple(p * n for p, n in zip(patch_size, grid, strict=True)),
            patch_size=patch_size, in_chans=filters.size(1), embed_dim=width, depth=blocks('backbone.blocks'),
            num_heads=heads, mlp_ratio=mlp_ratio('backbone.blocks', width)),
        masking=dict(type='mae_plugin.RandomMasking', mask_ratio=said(card, 'masking', 'mask_ratio') or .75),
        neck=dict(
            type='mae_plugin.MAEDecoder', decoder_embed_dim=decoder_width, decoder_depth=blocks('neck.decoder_blocks'),
            decoder_num_heads=decoder_heads, mlp_ratio=mlp_ratio('neck.decoder_blocks', decoder_width)),
        head=dict(type='mae_plugin.PixelReconstructionHead',
                  target=dict(type='mae_plugin.PixelTarget', norm_pix=norm_pix)),
        data_preprocessor=dict(type='mae_plugin.MAEDataPreprocessor', **colours))
