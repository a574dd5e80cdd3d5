"""Optimizer constructors: who is decayed, and the learning rate of each layer."""

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from ..registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """No weight decay for biases and other parameters of one dimension, as in MAE's pretraining.

    Parameters with equal settings share a group: the optimizer updates a group in few launches, where MMEngine's own
    constructor makes a group of each tensor.

    Args:
        optim_wrapper_cfg: Config of the wrapper, with its ``optimizer``.
        paramwise_cfg: No key is known here; :class:`LayerDecayOptimWrapperConstructor` knows one.

    Raises:
        ValueError: If ``paramwise_cfg`` holds an unknown key.
    """

    known_keys: tuple[str, ...] = ()

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        unknown = set(self.paramwise_cfg) - set(self.known_keys)
        if unknown:
            raise ValueError(f'paramwise_cfg has the unknown keys {sorted(unknown)}; '
                             f'{type(self).__name__} knows {list(self.known_keys) or "none"}')
        # An empty one would make MMEngine leave out add_params.
        self.paramwise_cfg = dict(self.paramwise_cfg, grouped=True)

    def add_params(self, params: list[dict], module: nn.Module, **kwargs) -> None:
        """Append to ``params`` the groups of ``module``, the whole model."""
        groups: dict[tuple[float, float], list] = {}
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                groups.setdefault(self.multipliers(name, parameter, module), []).append(parameter)
        for (lr_mult, decay_mult), members in groups.items():
            group = dict(params=members)
            if self.base_lr is not None:
                group['lr'] = self.base_lr * lr_mult
            if self.base_wd is not None:
                group['weight_decay'] = self.base_wd * decay_mult
            params.append(group)
        print_log(f'Optimizer: {sum(map(len, groups.values()))} tensors in {len(groups)} groups of equal settings.',
                  logger='current')

    def multipliers(self, name: str, parameter: nn.Parameter, model: nn.Module) -> tuple[float, float]:
        """Factors on the learning rate and the weight decay of a parameter."""
        return 1., 0. if parameter.ndim <= 1 else 1.


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(GroupedOptimWrapperConstructor):
    """Layer-wise learning rates for fine-tuning: the nearer to the image, the slower (BEiT; MAE, Table 9).

    The learning rate of depth i is multiplied by ``layer_decay_rate ** (last - i)``. The model's ``backbone`` tells
    the depth of its parameters by ``get_layer_depth`` and those not to decay by ``no_weight_decay``; neck and heads
    are the last depth.

    Args:
        optim_wrapper_cfg: Config of the wrapper, with its ``optimizer``.
        paramwise_cfg: ``dict(layer_decay_rate=0.75)``.

    Raises:
        ValueError: If the model's backbone has no ``get_layer_depth``, or ``paramwise_cfg`` holds an unknown key.
    """

    known_keys = ('layer_decay_rate', )

    def multipliers(self, name: str, parameter: nn.Parameter, model: nn.Module) -> tuple[float, float]:
        """Factors on the learning rate and the weight decay of a parameter."""
        backbone = getattr(model, 'backbone', None)
        if not (hasattr(backbone, 'get_layer_depth') and hasattr(backbone, 'no_weight_decay')):
            raise ValueError(f'layer decay needs a model with a backbone that has get_layer_depth and no_weight_decay, '
                             f'as mae_plugin.PlainViT; {type(backbone).__name__} has not')
        depth, num_layers = backbone.get_layer_depth(name, prefix='backbone.')
        lr_mult = self.paramwise_cfg.get('layer_decay_rate', 1.) ** (num_layers - 1 - depth)
        undecayed = parameter.ndim <= 1 or name.removeprefix('backbone.') in backbone.no_weight_decay()
        return lr_mult, 0. if undecayed else 1.
