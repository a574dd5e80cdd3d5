"""LARS as MAE's linear probing uses it."""

from timm.optim import Lars as TimmLars

from ..registry import OPTIMIZERS


@OPTIMIZERS.register_module()
class Lars(TimmLars):
    """timm's LARS (You et al., 2017), whose trust ratio is for matrices only: the optimizer of MAE's linear probing.

    A parameter of more than one dimension moves by ``lr * buffer``, where ``buffer`` is the momentum times itself plus
    ``trust_coeff * |p| / |g| * g`` (He et al., 2022, Table 10). One of one dimension, as a bias, has neither trust
    ratio nor weight decay. The learning rate comes after the momentum, so that a schedule acts at once; mmpretrain's
    ``LARS`` has it before, and scales biases too.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        momentum: Factor on the buffer.
        weight_decay: L2 penalty of parameters of more than one dimension.
        trust_coeff: Factor of the trust ratio.
        **kwargs: Those of timm's ``Lars``, but ``always_adapt``.
    """

    def __init__(self, params, lr: float, momentum: float = 0.9, weight_decay: float = 0., trust_coeff: float = 1e-3,
                 **kwargs) -> None:
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, trust_coeff=trust_coeff,
                         **{'eps': 0., **kwargs})

    def add_param_group(self, param_group: dict) -> None:
        """Add the matrices of a group and its other parameters, each as a group of its own."""
        params = param_group['params']
        params = [params] if hasattr(params, 'ndim') else list(params)
        matrices = [p for p in params if p.ndim > 1]
        others = [p for p in params if p.ndim <= 1]
        if matrices:
            super().add_param_group(dict(param_group, params=matrices, always_adapt=True))
        if others:
            super().add_param_group(dict(param_group, params=others, always_adapt=False, weight_decay=0.))
