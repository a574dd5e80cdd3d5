"""Start a :class:`PlainViT` from a pretraining checkpoint, or refuse loudly."""

import re

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..engine.safe_load import load_file
from ..registry import WEIGHT_INITIALIZERS

# What a task adds to the encoder starts fresh: relative positions, layer scale and the norm of the pooled features.
_MAY_BE_MISSING = re.compile(r'blocks\.\d+\.(attn\.rel_pos\.|ls[12]\.)|fc_norm\.')
# What a task has no use for: the decoder, a head, and the class token and norms where the output does not use them.
_MAY_BE_UNUSED = re.compile(r'mask_token$|decoder_|neck\.|head\.|cls_token$|norm\.|fc_norm\.')


@WEIGHT_INITIALIZERS.register_module()
class MAEPretrained:
    """Weight initializer (``init_cfg`` of a backbone): loads the encoder of a checkpoint of ours or of the authors.

    Every tensor of the encoder must arrive. What may be missing (relative positions, layer scale, ``fc_norm``) and
    what may stay unused (the decoder; class token, norms and heads where the output has no use for them) is fixed, and
    said in the log. A resumed run reads the checkpoint it resumes from afterwards, so this never overwrites it.

    A file does not tell its patch grid: one of as many patches in another shape (8x32 for 16x16) is not noticed.

    Args:
        checkpoint: Path of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint, or its tensors do not fit the model.
    """

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint

    def __call__(self, module: nn.Module) -> None:
        """Load into ``module``."""
        state, other_parts = encoder_state(load_file(self.checkpoint), self.checkpoint)
        wanted = module.state_dict()
        self._check_sizes(state, wanted, module)
        missing = [name for name in wanted if name not in state]
        unused = [name for name in state if name not in wanted]
        self._check_names(missing, unused, wanted, module)
        module.load_state_dict({name: state[name] for name in wanted if name in state}, strict=False)
        unused += other_parts
        print_log(
            f'{type(module).__name__}: loaded {len(wanted) - len(missing)} of {len(wanted)} tensors from '
            f'{self.checkpoint}.'
            + (f' Not in the file, start fresh, as a task adds them: {_shorten(missing)}.' if missing else '')
            + (f' In the file, of no use here: {_shorten(unused)}.' if unused else ''), logger='current')

    def _check_sizes(self, state: dict[str, Tensor], wanted: dict[str, Tensor], module: nn.Module) -> None:
        wrong = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
        if wrong == ['pos_embed']:
            raise ValueError(
                f'{self.checkpoint} was pretrained on a grid of {state["pos_embed"].size(1) - 1} patches, the model '
                f'has img_size={module.img_size} with {wanted["pos_embed"].size(1) - 1}: set backbone.img_size to the '
                f'size of pretraining; positions are resampled to the images of the task by themselves')
        if wrong:
            raise ValueError(
                f'{self.checkpoint} holds a model of another size than {type(module).__name__} of the config: '
                + ', '.join(f'{name} {tuple(state[name].shape)} in the file, {tuple(wanted[name].shape)} in the model'
                            for name in wrong[:3])
                + f' ({len(wrong)} tensors differ): set embed_dim, depth, patch_size and in_chans of pretraining')

    def _check_names(self, missing: list[str], unused: list[str], wanted: dict[str, Tensor], module: nn.Module) -> None:
        lost = [name for name in missing if not _MAY_BE_MISSING.match(name)]
        strange = [name for name in unused if not _MAY_BE_UNUSED.match(name)]
        if len(missing) == len(wanted):
            raise ValueError(f'{self.checkpoint} holds another model: none of its tensors '
                             f'({_shorten(unused)}) belongs to {type(module).__name__}')
        if lost or strange:
            raise ValueError(
                f'{self.checkpoint} does not fit {type(module).__name__}:'
                + (f' it lacks {_shorten(lost)}' if lost else '') + (' and' if lost and strange else '')
                + (f' it holds {_shorten(strange)}, which the model has no place for' if strange else '')
                + ': make depth and the other sizes of the backbone those of pretraining')


def encoder_state(checkpoint: object, path: str) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors of a checkpoint by the names of the encoder, and the names of those that belong to other parts.

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
        return tensors, []
    return encoder, [name for name in tensors if not name.startswith('backbone.')]


def _shorten(names: list[str], shown: int = 4) -> str:
    """``a, b, c, d and 20 more``."""
    return ', '.join(names[:shown]) + (f' and {len(names) - shown} more' if len(names) > shown else '')
