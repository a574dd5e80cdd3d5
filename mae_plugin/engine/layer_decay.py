"""Optimizer constructors: who is decayed, and the learning rate of each layer."""

from collections.abc import Callable

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from ..registry import OPTIM_WRAPPER_CONSTRUCTORS
from .distributed import whole_name, whole_shapes

# As detectron2 understands "norm": torch's own. LayerNorm2d, which is none of them there, is decayed.
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)

# Kinds of parameters that may go without weight decay: (name, dimensions, its module) -> belongs to the kind.
NO_DECAY_KINDS: dict[str, Callable[[str, int, nn.Module], bool]] = {
    '1d': lambda name, ndim, module: ndim <= 1,
    'norm': lambda name, ndim, module: type(module) in _NORMS,
    'pos_embed': lambda name, ndim, module: name.rpartition('.')[2] == 'pos_embed',
    'cls_token': lambda name, ndim, module: name.rpartition('.')[2] == 'cls_token',
    'rel_pos': lambda name, ndim, module: '.rel_pos.' in name,
}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """No weight decay for some kinds of parameters: in pretraining, biases and all others of one dimension.

    Parameters with equal settings share a group: the optimizer updates a group in few launches, where MMEngine's own
    constructor makes a group of each tensor.

    Args:
        optim_wrapper_cfg: Config of the wrapper, with its ``optimizer``.
        paramwise_cfg: ``dict(no_decay=('1d', ))``: the kinds of parameters without weight decay. ``1d`` are those of
            one dimension, so all biases; ``norm`` those of torch's norm layers; ``pos_embed``, ``cls_token`` and
            ``rel_pos`` those of this name.

    Raises:
        ValueError: If ``paramwise_cfg`` holds an unknown key, or ``no_decay`` an unknown kind.
    """

    known_keys: tuple[str, ...] = ('no_decay', )
    default_no_decay: tuple[str, ...] = ('1d', )

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        unknown = set(self.paramwise_cfg) - set(self.known_keys)
        if unknown:
            raise ValueError(f'paramwise_cfg has the unknown keys {sorted(unknown)}; '
                             f'{type(self).__name__} knows {list(self.known_keys) or "none"}')
        self.no_decay = tuple(self.paramwise_cfg.get('no_decay', self.default_no_decay))
        strange = [kind for kind in self.no_decay if kind not in NO_DECAY_KINDS]
        if strange:
            raise ValueError(f'paramwise_cfg.no_decay has the unknown kinds {strange}; there are {[*NO_DECAY_KINDS]}')
        # An empty one would make MMEngine leave out add_params.
        self.paramwise_cfg = dict(self.paramwise_cfg, grouped=True)

    def add_params(self, params: list[dict], module: nn.Module, **kwargs) -> None:
        """Append to ``params`` the groups of ``module``, the whole model."""
        groups: dict[tuple[float, float], list] = {}
        shapes = whole_shapes(module)
        for path, parameter in module.named_parameters():
            if parameter.requires_grad:
                name, owner = whole_name(path), module.get_submodule(path.rpartition('.')[0])
                decayed = not any(NO_DECAY_KINDS[kind](name, len(shapes[name]), owner) for kind in self.no_decay)
                groups.setdefault((self.lr_mult(name, module), float(decayed)), []).append(parameter)
        for (lr_mult, decay_mult), members in groups.items():
            group = dict(params=members)
            if self.base_lr is not None:
                group['lr'] = self.base_lr * lr_mult
            if self.base_wd is not None:
                group['weight_decay'] = self.base_wd * decay_mult
            params.append(group)
        print_log(f'Optimizer: {sum(map(len, groups.values()))} tensors in {len(groups)} groups of equal settings.',
                  logger='current')

    def lr_mult(self, name: str, model: nn.Module) -> float:
        """Factor on the learning rate of a parameter of ``model``."""
        return 1.


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(GroupedOptimWrapperConstructor):
    """Layer-wise learning rates for fine-tuning: the nearer to the image, the slower (BEiT; MAE, Table 9).

    The learning rate of depth i is multiplied by ``layer_decay_rate ** (last - i)``. The model's ``backbone`` tells
    the depth of its parameters by ``get_layer_depth``; neck and heads are the last depth.

    Args:
        optim_wrapper_cfg: Config of the wrapper, with its ``optimizer``.
        paramwise_cfg: ``dict(layer_decay_rate=0.75, no_decay=('1d', 'pos_embed', 'cls_token'))``, for ``no_decay`` see
            :class:`GroupedOptimWrapperConstructor`; the default is that of MAE's fine-tuning.

    Raises:
        ValueError: If the model's backbone has no ``get_layer_depth``, or ``paramwise_cfg`` holds an unknown key.
    """

    known_keys = ('layer_decay_rate', 'no_decay')
    default_no_decay = ('1d', 'pos_embed', 'cls_token')

    def lr_mult(self, name: str, model: nn.Module) -> float:
        """``layer_decay_rate`` to the power of the layers above the parameter's."""
        backbone = getattr(model, 'backbone', None)
        if not hasattr(backbone, 'get_layer_depth'):
            raise ValueError('layer decay needs a model with a backbone that has get_layer_depth, as '
                             f'mae_plugin.PlainViT; {type(backbone).__name__} has not')
        depth, num_layers = backbone.get_layer_depth(name, prefix='backbone.')
        return self.paramwise_cfg.get('layer_decay_rate', 1.) ** (num_layers - 1 - depth)
