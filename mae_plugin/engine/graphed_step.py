"""A training step launched as a whole."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mae_plugin.models import MaskedAutoencoder
from mae_plugin.models.masking import sample_tensors

from .optim_wrapper import AutocastOptimWrapper

WARM_UP = 3  # PyTorch's number: kernels are loaded and chosen, the optimizer makes its state

Step = Callable[[], dict[str, Tensor]]


def why_no_graph(model: nn.Module, optim_wrapper: OptimWrapper, device_type: str = 'cuda') -> str | None:
    """Why a step of ``model`` cannot be a graph on a device of this type, or None if it can."""
    if not isinstance(model, MaskedAutoencoder):
        return f'{type(model).__name__} is not a mae_plugin.MaskedAutoencoder in a single process'
    if (device := next(model.parameters()).device.type) != device_type:
        return f'the model is on the {device}, not on a GPU'
    if type(optim_wrapper) not in (OptimWrapper, AutocastOptimWrapper):
        return f'the optimizer wrapper is {type(optim_wrapper).__name__}, not mae_plugin.AutocastOptimWrapper'
    if optim_wrapper._accumulative_counts > 1:
        return f'optim_wrapper.accumulative_counts={optim_wrapper._accumulative_counts} is not 1'
    if optim_wrapper.clip_grad_kwargs:
        return 'optim_wrapper.clip_grad is set'
    if isinstance(optim_wrapper, AutocastOptimWrapper) and optim_wrapper.scaler.is_enabled():
        return "float16 looks for overflows on the host; take optim_wrapper.dtype='bfloat16'"
    if 'capturable' not in optim_wrapper.optimizer.defaults:
        return f'{type(optim_wrapper.optimizer).__name__} has no capturable form; AdamW has'
    return None


class CUDAGraphRecorder:
    """Records what a function launches, to launch it again at once; all on a stream of its own."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()

    def warm_up(self, step: Step, last: bool = False) -> dict[str, Tensor]:
        """Run ``step`` on the stream of the recording.

        A ``last`` one that waits for the device raises RuntimeError. While recording, that would break more than the
        record: PyTorch's allocator and random generator would believe from then on that recording goes on.
        """
        before = torch.cuda.get_sync_debug_mode()
        self.stream.wait_stream(torch.cuda.current_stream())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # that it is a prototype
                torch.cuda.set_sync_debug_mode('error' if last else before)
            with torch.cuda.stream(self.stream):
                return step()
        finally:
            torch.cuda.set_sync_debug_mode(before)
            torch.cuda.current_stream().wait_stream(self.stream)

    def record(self, step: Step) -> Step:
        """What launches the kernels of ``step`` again, on the same memory; recording does not run them."""
        graph = torch.cuda.CUDAGraph()
        # The outer context restores the stream where a recording fails. The thread that pins the loader's batches
        # allocates memory meanwhile: only this thread must not.
        with torch.cuda.stream(torch.cuda.current_stream()), \
                torch.cuda.graph(graph, stream=self.stream, capture_error_mode='thread_local'):
            outputs = {name: value.detach() for name, value in step().items()}  # frees the autograd graph

        def replay() -> dict[str, Tensor]:
            graph.replay()
            return outputs
        return replay


class GraphedStep:
    """``train_step`` of a masked autoencoder as one CUDA graph: masks, forward, backward and AdamW.

    The first steps run as they are; then one is recorded, and launched again for each batch. Images and sample keys
    are copied to where the recorded step reads them, and learning rates likewise, rounded to float32. A batch of
    another shape, and whatever cannot be recorded, take the plain step with one warning. After the optimizer has loaded
    a state, and when the share of hidden patches has changed, the step is recorded anew. Parts of the model see as
    ``data_samples`` the tensors of :func:`~mae_plugin.models.masking.sample_tensors` alone, by name; one that asks for
    more makes the run go on with the plain step. Of a graph that reads the losses in place, copies are
    returned.

    Args:
        model: For which :func:`why_no_graph` has no reason.
        optim_wrapper: Its optimizer's wrapper.
        recorder: Has ``warm_up(step, last)`` and ``record(step)``, as :class:`CUDAGraphRecorder`.
    """

    def __init__(self, model: MaskedAutoencoder, optim_wrapper: OptimWrapper, recorder) -> None:
        self.train_step, self.optim_wrapper, self.recorder = model.train_step, optim_wrapper, recorder
        self.masking, self.mask_ratio = model.masking, getattr(model.masking, 'mask_ratio', None)
        self.decode = getattr(model.data_preprocessor, 'decode', lambda data: data)  # not a part of the graph
        self.optimizer = optim_wrapper.optimizer
        self.device = next(model.parameters()).device
        self.learning_rates = [torch.zeros((), device=self.device) for _ in self.optimizer.param_groups]
        self.off = False
        self.warned_of_shape = False
        self.reset()
        # Steps that are not recorded run with capturable, too, of which PyTorch would warn.
        self.optimizer._warned_capturable_if_run_uncaptured = True
        self._hook = self.optimizer.register_load_state_dict_post_hook(lambda optimizer: self.reset())

    def reset(self) -> None:
        """Forget the recorded step, whose memory is no longer that of the optimizer."""
        self.static: dict[str, Tensor] | None = None
        self.replay: Step | None = None
        self.steps = 0
        for state in self.optimizer.state.values():  # where a step without fused AdamW left it on the CPU
            if isinstance(state.get('step'), Tensor):
                state['step'] = state['step'].to(self.device)

    def close(self) -> None:
        """Free the recorded step and its memory, which the optimizer would hold."""
        self._hook.remove()
        self.reset()

    def __call__(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Train on one batch.

        Args:
            data: ``inputs``, uint8 (B, C, H, W), a list of (C, H, W) or encoded, and ``data_samples`` with their keys.
            optim_wrapper: The one of the constructor.

        Returns:
            Scalar tensors by name, as ``train_step``.
        """
        data = self.decode(data)
        with self._recordable_optimizer():
            if not self.off and self._load(data):
                count = optim_wrapper._inner_count
                try:
                    outputs = self._run(lambda: self.train_step(self._recorded_data(), optim_wrapper))
                    optim_wrapper._inner_count = count + 1  # a replay does not run the wrapper
                    return {name: value.detach().clone() for name, value in outputs.items()}
                except Exception as error:  # recording fails in many ways; an error of the user's fails again below
                    self._switch_off(f'the step cannot be recorded ({type(error).__name__}: {error})')
                    optim_wrapper._inner_count = count
                    optim_wrapper.zero_grad()
            return self.train_step(data, optim_wrapper)

    def _run(self, step: Step) -> dict[str, Tensor]:
        self.steps += 1
        if self.steps <= WARM_UP:
            return self.recorder.warm_up(step, last=self.steps == WARM_UP)
        if self.replay is None:
            self.settings = self._settings()
            self.replay = self.recorder.record(step)
        return self.replay()

    def _load(self, data: dict) -> bool:
        """Copy a batch to where the recorded step reads it; False if that step is not for this batch."""
        if (ratio := getattr(self.masking, 'mask_ratio', None)) != self.mask_ratio:
            self.mask_ratio = ratio
            self.reset()
        if self.replay is not None and self._settings() != self.settings:
            self._switch_off('settings of the optimizer other than the learning rate have changed')
            return False
        imgs = data['inputs']
        shapes = {tuple(imgs.shape[1:])} if isinstance(imgs, Tensor) else {tuple(img.shape) for img in imgs}
        if len(shapes) == 1 and not isinstance(imgs, Tensor):
            imgs = torch.stack(imgs)
        batch = dict(inputs=imgs, **sample_tensors(data.get('data_samples')))
        if self.static is None and len(shapes) == 1:
            self.static = {name: torch.empty_like(x, device=self.device) for name, x in batch.items()}
        if len(shapes) > 1 or _layout(batch) != _layout(self.static):
            if not self.warned_of_shape:
                _warn(f'a batch of {len(imgs)} images of {sorted(shapes)} is not of the recorded shape: such batches '
                      'take the plain step; drop_last=True leaves a short last one out')
                self.warned_of_shape = True
            return False
        for name, x in batch.items():
            x = x.pin_memory() if name != 'inputs' and self.device.type == 'cuda' and not x.is_cuda else x
            self.static[name].copy_(x, non_blocking=True)
        return True

    def _recorded_data(self) -> dict:
        samples = {name: x for name, x in self.static.items() if name != 'inputs'}
        return dict(inputs=self.static['inputs'], data_samples=samples or None)

    def _settings(self) -> list[dict[str, Any]]:
        return [{key: value for key, value in group.items() if key not in ('params', 'lr', 'initial_lr')}
                for group in self.optimizer.param_groups]

    @contextmanager
    def _recordable_optimizer(self) -> Iterator[None]:
        """Learning rates as tensors, and steps counted on the device: what can be recorded.

        Outside, schedulers, the log and checkpoints find the numbers and settings that they know.
        """
        groups = self.optimizer.param_groups
        before = [(group['lr'], group['capturable']) for group in groups]
        for group, lr in zip(groups, self.learning_rates, strict=True):
            lr.fill_(group['lr'])
            group.update(lr=lr, capturable=self.device.type == 'cuda')
        try:
            yield
        finally:
            for group, (lr, capturable) in zip(groups, before, strict=True):
                group.update(lr=lr, capturable=capturable)

    def _switch_off(self, reason: str) -> None:
        self.off, self.static, self.replay = True, None, None
        _warn(f'{reason}: the run goes on with the plain step')


def _layout(batch: dict[str, Tensor]) -> dict:
    return {name: (x.shape, x.dtype) for name, x in batch.items()}


def _warn(message: str) -> None:
    print_log(f'default_hooks.fast.cuda_graph: {message}', logger='current', level=logging.WARNING)
