"""Start a :class:`PlainViT`, or a whole masked autoencoder, from a checkpoint, or refuse loudly."""

import re
from math import isqrt

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn

from ..registry import WEIGHT_INITIALIZERS
from ..weights.safe_load import load_file
from .layers import at_least_float32
from .pos_embed import resample_pos_embed
from .vit import ADDED_BY_TASKS

_DECODER = re.compile(r'mask_token$|decoder_')
# What a task has no use for: the decoder, a head, and the class token and norms where the output does not use them.
_MAY_BE_UNUSED = re.compile(r'mask_token$|decoder_|neck\.|head\.|cls_token$|norm\.|fc_norm\.')
_TIMM = 'timm://'


@WEIGHT_INITIALIZERS.register_module()
class MAEPretrained:
    """Weight initializer (``init_cfg``): loads a checkpoint of ours, of the authors or of timm.

    On a backbone it loads the encoder: every tensor of it must arrive. What may be missing (what a task adds) and what
    may stay unused (the decoder; class token, norms and heads where the output has no use for them) is fixed, and said
    in the log. On a :class:`MaskedAutoencoder` it loads encoder and decoder, to go on with pretraining. A resumed run
    reads the checkpoint it resumes from afterwards, so this never overwrites it.

    A file does not tell its patch grid: one of as many patches in another shape (8x32 for 16x16) is not noticed.

    Args:
        checkpoint: Path of the file, or ``timm://NAME`` for a pretrained ViT of timm, which timm downloads.
        resize: Let the patch size or, on a square grid, the image size be another than in the file: the filters of
            patches and the positions are resized bicubically. ViTDet takes ViT-H/14 to patches of 16 so. A decoder
            predicts patches of one size, so it can be kept only where that stays.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint, or its tensors do not fit the model.
    """

    def __init__(self, checkpoint: str, resize: bool = False) -> None:
        self.checkpoint, self.resize = checkpoint, resize

    def __call__(self, module: nn.Module) -> None:
        """Load into ``module``."""
        whole = hasattr(module, 'backbone')
        own_names = {_authors_name(name) if whole else name: name for name in module.state_dict()}
        wanted = {name: module.state_dict()[own] for name, own in own_names.items()}
        state, other_parts = encoder_state(self.read(), self.checkpoint)
        if whole:
            decoder = {_authors_name(name): value for name, value in other_parts.items() if name.startswith('neck.')}
            state, other_parts = {**state, **decoder}, {}
        resized = self._resize(state, wanted, module.backbone if whole else module) if self.resize else []
        self._check_sizes(state, wanted, module.backbone if whole else module)
        missing = [name for name in wanted if name not in state]
        unused = [name for name in state if name not in wanted]
        self._check_names(missing, unused, wanted, module)
        loaded = {own_names[name]: state[name] for name in wanted if name in state}
        module.load_state_dict(loaded, strict=False)
        unused += list(other_parts)
        print_log(
            f'{type(module).__name__}: loaded {len(loaded)} of {len(wanted)} tensors from {self.checkpoint}.'
            + (f' Resized: {", ".join(resized)}.' if resized else '')
            + (f' Not in the file, start fresh, as a task adds them: {_shorten(missing)}.' if missing else '')
            + (f' In the file, of no use here: {_shorten(unused)}.' if unused else ''), logger='current')

    def read(self) -> object:
        """What the file holds, or the state dict of timm's model."""
        if not self.checkpoint.startswith(_TIMM):
            return load_file(self.checkpoint)
        import timm
        name = self.checkpoint.removeprefix(_TIMM)
        try:
            model = timm.create_model(name, pretrained=True)
        except Exception as error:  # no such model, or no network: timm and the hub have many classes for these
            near = ', '.join(timm.list_pretrained(f'{name.partition("_patch")[0]}*')[:5])
            raise ValueError(f'{self.checkpoint}: timm gives no weights: {str(error).splitlines()[0]}'
                             + (f'; among its models are {near}' if near else '')) from error
        mean, std = (model.pretrained_cfg.get(key) for key in ('mean', 'std'))
        print_log(f'{self.checkpoint} was trained on images with mean {mean} and std {std}, as shares of 255: '
                  'data_preprocessor should have the same', logger='current')
        return model.state_dict()

    def _resize(self, state: dict[str, Tensor], wanted: dict[str, Tensor], vit: nn.Module) -> list[str]:
        """Resize filters and positions in ``state`` to those of ``wanted``; what was done, for the log."""
        done = []

        def differs(name: str, kept: slice) -> bool:
            return (name in state and name in wanted and state[name].shape != wanted[name].shape
                    and state[name].shape[kept] == wanted[name].shape[kept])

        if differs('patch_embed.proj.weight', slice(0, 2)):
            filters = state['patch_embed.proj.weight']
            old, new = tuple(filters.shape[2:]), tuple(wanted['patch_embed.proj.weight'].shape[2:])
            resized = F.interpolate(at_least_float32(filters), size=new, mode='bicubic')
            state['patch_embed.proj.weight'] = resized.to(filters.dtype)
            done.append(f'filters of {old[0]}x{old[1]} to {new[0]}x{new[1]}')
        for name in ('pos_embed', 'decoder_pos_embed'):
            side = isqrt(state[name].size(1) - 1) if differs(name, slice(2, 3)) else 0
            if side and side * side == state[name].size(1) - 1:
                state[name] = resample_pos_embed(state[name], (side, side), vit.grid)
                done.append(f'{name} of {side}x{side} to {vit.grid[0]}x{vit.grid[1]}')
        return done

    def _check_sizes(self, state: dict[str, Tensor], wanted: dict[str, Tensor], vit: nn.Module) -> None:
        wrong = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
        if set(wrong) in ({'pos_embed'}, {'pos_embed', 'decoder_pos_embed'}):
            raise ValueError(
                f'{self.checkpoint} was pretrained on a grid of {state["pos_embed"].size(1) - 1} patches, the model '
                f'has img_size={vit.img_size} with {wanted["pos_embed"].size(1) - 1}: set backbone.img_size to the '
                'size of pretraining, positions are resampled to the images of the task by themselves; or set '
                'init_cfg.resize=True to resample them once, now')
        if any(name.startswith('decoder_pred.') for name in wrong):
            raise ValueError(
                f'{self.checkpoint} has a decoder for other patches than the model (decoder_pred.weight '
                f'{tuple(state["decoder_pred.weight"].shape)} in the file, '
                f'{tuple(wanted["decoder_pred.weight"].shape)} in the model): keep patch_size, in_chans and the sizes '
                'of the decoder, or give init_cfg to the backbone, which starts the decoder afresh')
        if wrong:
            raise ValueError(
                f'{self.checkpoint} holds a model of another size than {type(vit).__name__} of the config: '
                + ', '.join(f'{name} {tuple(state[name].shape)} in the file, {tuple(wanted[name].shape)} in the model'
                            for name in wrong[:3])
                + f' ({len(wrong)} tensors differ): set embed_dim, depth, patch_size and in_chans of pretraining'
                + (', or init_cfg.resize=True to resize the patches' if 'patch_embed.proj.weight' in wrong else ''))

    def _check_names(self, missing: list[str], unused: list[str], wanted: dict[str, Tensor], module: nn.Module) -> None:
        lost = [name for name in missing if not ADDED_BY_TASKS.match(name)]
        strange = [name for name in unused if not _MAY_BE_UNUSED.match(name)]
        if len(missing) == len(wanted):
            raise ValueError(f'{self.checkpoint} holds another model: none of its tensors '
                             f'({_shorten(unused)}) belongs to {type(module).__name__}')
        if lost and all(_DECODER.match(name) for name in lost):
            raise ValueError(f'{self.checkpoint} holds an encoder only, it lacks {_shorten(lost)}: take a file with '
                             "the decoder (of the authors', one named _full), or give init_cfg to the backbone")
        if lost or strange:
            raise ValueError(
                f'{self.checkpoint} does not fit {type(module).__name__}:'
                + (f' it lacks {_shorten(lost)}' if lost else '') + (' and' if lost and strange else '')
                + (f' it holds {_shorten(strange)}, which the model has no place for' if strange else '')
                + ': make depth and the other sizes of the backbone those of pretraining')


def _authors_name(name: str) -> str:
    """The authors' name of a parameter of a :class:`MaskedAutoencoder`."""
    return name.removeprefix('backbone.').removeprefix('neck.')


def encoder_state(checkpoint: object, path: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors of a checkpoint by the names of the encoder, and those that belong to other parts.

    Args:
        checkpoint: What :func:`load_file` read: a state dict, alone or under ``state_dict`` (MMEngine) or ``model``
            (the authors).
        path: Its file, for messages.

    Raises:
        ValueError: If there are no tensors in it.
    """
    state = checkpoint
    for key in ('state_dict', 'model'):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
            break
    if not isinstance(state, dict) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no model: neither a state dict, nor one under 'state_dict' or 'model'")
    tensors = {name.removeprefix('module.'): value for name, value in state.items() if isinstance(value, torch.Tensor)}
    encoder = {name.removeprefix('backbone.'): value for name, value in tensors.items() if name.startswith('backbone.')}
    if not encoder:  # the authors' files have no prefix, and the decoder's names beside the encoder's
        return tensors, {}
    return encoder, {name: value for name, value in tensors.items() if not name.startswith('backbone.')}


def _shorten(names: list[str], shown: int = 4) -> str:
    """``a, b, c, d and 20 more``."""
    return ', '.join(names[:shown]) + (f' and {len(names) - shown} more' if len(names) > shown else '')
