"""Mixed precision on any device, and optimizers with as few parameter groups as there are settings."""

from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from ..registry import OPTIM_WRAPPERS

_DTYPES = {'bfloat16': torch.bfloat16, 'float16': torch.float16, 'float32': torch.float32}


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Mixed precision by autocast, on the GPU and on the CPU; only float16 scales the loss.

    MMEngine's ``AmpOptimWrapper`` refuses the CPU and scales in bfloat16 too, where it only costs time.

    Args:
        dtype: ``bfloat16``, ``float16``, or ``float32`` for no mixed precision.
        **kwargs: Those of MMEngine's ``OptimWrapper``: ``optimizer``, ``accumulative_counts``, ``clip_grad``.

    Raises:
        ValueError: If ``dtype`` is another.
    """

    def __init__(self, dtype: str = 'bfloat16', **kwargs) -> None:
        if dtype not in _DTYPES:
            raise ValueError(f"optim_wrapper.dtype='{dtype}' is not one of {list(_DTYPES)}")
        super().__init__(**kwargs)
        self.dtype = _DTYPES[dtype]
        self.device_type = next(p for group in self.optimizer.param_groups for p in group['params']).device.type
        self.scaler = torch.amp.GradScaler(self.device_type, enabled=dtype == 'float16')

    @contextmanager
    def optim_context(self, model: nn.Module):
        """Autocast, and no gradient exchange between steps of an accumulation."""
        mixed = self.dtype != torch.float32
        with super().optim_context(model), torch.autocast(self.device_type, self.dtype if mixed else None, mixed):
            yield

    def backward(self, loss: Tensor, **kwargs) -> None:
        """Backward pass of the (scaled) ``loss``, a scalar."""
        super().backward(self.scaler.scale(loss), **kwargs)

    def step(self, **kwargs) -> None:
        """Update the parameters; with a scaler, unless a gradient overflowed."""
        if self.clip_grad_kwargs:
            self.scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()

    def state_dict(self) -> dict:
        """State of the optimizer and, in float16, of the scaler."""
        state = super().state_dict()
        if self.scaler.is_enabled():
            state['loss_scaler'] = self.scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore what :meth:`state_dict` gave; a run may change its precision on resuming."""
        state_dict = dict(state_dict)
        scaler_state = state_dict.pop('loss_scaler', None)
        if scaler_state and self.scaler.is_enabled():
            self.scaler.load_state_dict(scaler_state)
        super().load_state_dict(state_dict)
