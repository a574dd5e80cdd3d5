"""Start a :class:`PlainViT`, a :class:`TimmViT` or a whole masked autoencoder, from a checkpoint, or refuse loudly."""

import re

from mmengine.logging import print_log
from torch import Tensor, nn

from ..registry import WEIGHT_INITIALIZERS
from ..weights.checkpoint import TIMM, Weights, read_weights, said, shorten
from .resize import grid_of, resize
from .vit import PlainViT

_DECODER = re.compile(r'neck\.(mask_token$|decoder_)')
# What a task has no use for: mask token, class token and norms where its output does not use them, and all that is not
# encoder.
_MAY_BE_UNUSED = re.compile(r'backbone\.(cls_token$|mask_token$|norm\.|fc_norm\.)|(?!backbone\.)')
_TASKS = ('classification', 'detection', 'segmentation')


@WEIGHT_INITIALIZERS.register_module()
class MAEPretrained:
    """Weight initializer (``init_cfg``): loads a checkpoint of ours, the authors, timm, transformers or OpenMMLab.

    Whose it is, is read from the names in the file (:mod:`mae_plugin.weights.formats`). On a backbone it loads the
    encoder: every tensor of it must arrive. What may be missing (what a task adds) and what may stay unused (the
    decoder; class token, norms and heads where the output has no use for them) is fixed, and said in the log. On a
    :class:`MaskedAutoencoder` it loads encoder and decoder, to go on with pretraining. A resumed run reads the
    checkpoint it resumes from afterwards, so this never overwrites it.

    The file, its SHA-256 and what it says of itself are left in the attribute ``loaded_from`` of the module, for
    :class:`~mae_plugin.engine.CheckpointCardHook`, which compares them with the config.

    Args:
        checkpoint: Path of the file, of a folder of transformers', or ``timm://NAME`` for a pretrained ViT of timm,
            which timm downloads.
        resize: Let the patch size, the image size, the number of channels or the size of windows be another than in
            the file: see :func:`~mae_plugin.models.resize.resize`. A decoder predicts patches of one size and number
            of channels, so it can be kept only where those stay.
        fine_tuned: Take the encoder of a model that was fine-tuned for a task with labels. Without it such a file is
            refused, for it is rarely what a config for pretrained weights means.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint, or its tensors do not fit the model, or ``checkpoint`` is None.
    """

    def __init__(self, checkpoint: str, resize: bool = False, fine_tuned: bool = False) -> None:
        if checkpoint is None:
            raise ValueError('init_cfg.checkpoint=None: name a file, or set init_cfg=None to start without one')
        self.checkpoint, self.resize, self.fine_tuned = checkpoint, resize, fine_tuned

    def __call__(self, module: nn.Module) -> None:
        """Load into ``module``."""
        whole = hasattr(module, 'backbone')
        vit, prefix = (module.backbone, '') if whole else (module, 'backbone.')
        try:
            weights = read_weights(self.checkpoint, plain=isinstance(vit, PlainViT))
        except FileNotFoundError as error:
            raise FileNotFoundError(f'{error}: init_cfg.checkpoint of the config names it; run the pretraining that '
                                    'writes it, or name another file there') from error
        weights.check_known()
        wanted = {prefix + name: value for name, value in module.state_dict().items()}
        self._check_kind(weights, whole)
        missing = [name for name in wanted if name not in weights.state]
        unused = [name for name in weights.state if name not in wanted]
        self._check_names(weights, missing, unused, module)
        grid = said(weights.card, 'backbone', 'grid')
        resized = resize(weights.state, wanted, vit.grid, grid) if self.resize else []
        self._check_sizes(weights.state, wanted, vit, grid)
        loaded = {name.removeprefix(prefix): weights.state[name] for name in wanted if name in weights.state}
        module.load_state_dict(loaded, strict=False)
        module.loaded_from = dict(file=self.checkpoint, sha256=weights.sha256, card=weights.card)
        print_log(
            f'{type(module).__name__}: loaded {len(loaded)} of {len(wanted)} tensors from {self.checkpoint} '
            f'(names of {weights.format}).' + (f' Resized: {", ".join(resized)}.' if resized else '')
            + (f' Not in the file, start fresh, as a task adds them: {_say(missing)}.' if missing else '')
            + (f' In the file, of no use here: {_say(unused)}.' if unused else '')
            + (f' Other weights in the file, not taken: {shorten(weights.others)}.' if weights.others else ''),
            logger='current')

    def _check_kind(self, weights: Weights, whole: bool) -> None:
        if weights.kind in _TASKS and not self.fine_tuned and not self.checkpoint.startswith(TIMM):
            others = [name for name in weights.state if not name.startswith('backbone.') or '.fc_norm.' in name]
            raise ValueError(
                f'{self.checkpoint} was fine-tuned for {weights.kind} (it holds {_say(others)}), a pretrained file is '
                'expected: name the one it was fine-tuned from'
                + ('' if whole else ', or set init_cfg.fine_tuned=True to take its encoder, which has seen labels'))

    def _check_sizes(self, state: dict[str, Tensor], wanted: dict[str, Tensor], vit: nn.Module,
                     grid: tuple[int, int] | None) -> None:
        wrong = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
        positions = {name for name in wanted if name.endswith('pos_embed')}
        slots = vit.pos_embed.size(1) - vit.grid[0] * vit.grid[1]
        patches = state['backbone.pos_embed'].size(1) - slots
        old_grid = grid_of(patches, grid)
        if not self.resize and old_grid not in (None, vit.grid) and not wrong:
            wrong = ['backbone.pos_embed']  # as many patches in another shape, as the card tells
        if wrong and set(wrong) <= positions:
            of = f'a grid of {old_grid[0]}x{old_grid[1]}' if old_grid else f'no square grid of {patches}'
            raise ValueError(
                f'{self.checkpoint} was pretrained on {of} patches, the model has img_size={vit.img_size} with a grid '
                f'of {vit.grid[0]}x{vit.grid[1]}: set backbone.img_size to the size of pretraining, positions are '
                'resampled to the images of the task by themselves; or set init_cfg.resize=True to resample them '
                'once, now')
        if any(name.startswith('neck.decoder_pred.') for name in wrong):
            name = 'neck.decoder_pred.weight'
            raise ValueError(
                f'{self.checkpoint} has a decoder that predicts something else than the model (decoder_pred.weight '
                f'{tuple(state[name].shape)} in the file, {tuple(wanted[name].shape)} in the model): keep patch_size, '
                'in_chans, head.target and the sizes of the decoder, or give init_cfg to the backbone, which starts '
                'the decoder afresh')
        if wrong:
            can_resize = {'backbone.patch_embed.proj.weight', *positions, *(n for n in wrong if '.rel_pos.' in n)}
            raise ValueError(
                f'{self.checkpoint} holds a model of another size than {type(vit).__name__} of the config: '
                + ', '.join(f'{_bare(name)} {tuple(state[name].shape)} in the file, {tuple(wanted[name].shape)} in '
                            'the model' for name in wrong[:3])
                + f' ({len(wrong)} tensors differ): set embed_dim, depth, patch_size and in_chans of pretraining'
                + (', or init_cfg.resize=True to resize patches, channels and relative positions'
                   if can_resize >= {*wrong} and not self.resize else ''))

    def _check_names(self, weights: Weights, missing: list[str], unused: list[str], module: nn.Module) -> None:
        kinds = {_kind(name) for name in weights.state}
        whole = hasattr(module, 'backbone')
        added = (module.backbone if whole else module).added_by_tasks
        # What a task adds is there for all blocks or for none: half of it is a damaged file.
        lost = [name for name in missing
                if not added.match(name.removeprefix('backbone.')) or _kind(name) in kinds]
        strange = [name for name in unused if whole or not _MAY_BE_UNUSED.match(name)]
        if lost and all(_DECODER.match(name) for name in lost) and not any(map(_DECODER.match, weights.state)):
            raise ValueError(f'{self.checkpoint} holds an encoder only, it lacks {_say(lost)}: take a file with '
                             "the decoder (of the authors', one named _full), or give init_cfg to the backbone")
        if lost or strange:
            name = said(weights.card, 'backbone', 'name')
            differences = (f' it lacks {_say(lost)}' if lost else '') + (' and' if lost and strange else '') + (
                f' it holds {_say(strange)}, which the model has no place for' if strange else '')
            if all(map(_DECODER.match, [*lost, *strange])):
                raise ValueError(f'{self.checkpoint} has another decoder than the {type(module.neck).__name__} of the '
                                 f'model:{differences}: make model.neck that of pretraining, or give init_cfg to the '
                                 'backbone, which starts the decoder afresh')
            raise ValueError(
                f'{self.checkpoint} does not fit {type(module).__name__}:{differences}'
                ': make depth and the other sizes of the backbone those of pretraining'
                + (f", which was that of mae_plugin.TimmViT(name='{name}')" if name else ''))


def _kind(name: str) -> str:
    """``name`` without the number of its block."""
    return re.sub(r'blocks\.\d+\.', 'blocks.', name)


def _bare(name: str) -> str:
    """The authors' name of a parameter of a :class:`MaskedAutoencoder`."""
    return name.removeprefix('backbone.').removeprefix('neck.')


def _say(names: list[str]) -> str:
    return shorten([_bare(name) for name in names])
