"""Mixed precision on any device, and optimizers with as few parameter groups as there are settings."""

import logging
from contextlib import contextmanager

import torch
from mmengine.logging import print_log
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

    Attributes:
        clipped: What clipping found (name to scalar tensor), for a hook that reads it later; None lets MMEngine log it,
            for which the host waits for the device in every step. :class:`~mae_plugin.engine.MeanLossHook` sets it.

    Raises:
        ValueError: If ``dtype`` is another, or the GPU lacks it.
    """

    clipped: dict[str, Tensor] | None = None

    def __init__(self, dtype: str = 'bfloat16', **kwargs) -> None:
        if dtype not in _DTYPES:
            raise ValueError(f"optim_wrapper.dtype='{dtype}' is not one of {list(_DTYPES)}")
        super().__init__(**kwargs)
        self.dtype = _DTYPES[dtype]
        device = next(p for group in self.optimizer.param_groups for p in group['params']).device
        self.device_type = device.type
        _check_support(dtype, device)
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

    def _clip_grad(self) -> None:
        if self.clipped is None:
            super()._clip_grad()
            return
        parameters = [p for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
        norm = self.clip_func(parameters, **self.clip_grad_kwargs) if parameters else None
        if norm is not None:  # clipping by value has none
            self.clipped[self.grad_name] = norm

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


def _check_support(dtype: str, device: torch.device) -> None:
    if device.type == 'cuda' and dtype == 'bfloat16' and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ValueError(f"optim_wrapper.dtype='bfloat16': {torch.cuda.get_device_name(device)} has none, it came with "
                         "compute capability 8.0 (A100): choose 'float16' or 'float32'")
    if device.type == 'cpu' and dtype != 'float32' and torch.backends.mkldnn.is_available():
        supported = {'bfloat16': torch.ops.mkldnn._is_mkldnn_bf16_supported,
                     'float16': torch.ops.mkldnn._is_mkldnn_fp16_supported}
        if not supported[dtype]():
            print_log(f"optim_wrapper.dtype='{dtype}': this CPU has no arithmetic for it, so that it costs time; "
                      "'float32' saves it", logger='current', level=logging.WARNING)
