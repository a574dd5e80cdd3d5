"""How fast a run trains, in its log."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.structures import BaseDataElement

from mae_plugin.benchmark.flops import training_flops
from mae_plugin.benchmark.matmul import matmul_rate
from mae_plugin.registry import HOOKS

from .hooks import log_line_follows


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Images per second, share of the time spent waiting for the loader, and MFU, in every line of the training log.

    They are means since the line before, of all processes, which are taken to train as many images as this one;
    validations are left out, saving a checkpoint is not. The first iteration, in which workers start and code is
    compiled, is not counted. On a GPU the times are those of its own events, read only where a line is written: no
    iteration waits for the device. It serves any model of MMEngine; MFU is that of a masked autoencoder only.

    - ``images_per_s``: images trained per second.
    - ``decoded_per_s``: images decoded for them, where repeated augmentation takes several crops of each.
    - ``data_wait``: share of the time in which the loop waited for the next batch, 0 to 1.
    - ``mfu``: the authors' operations per second (:func:`~mae_plugin.benchmark.flops.training_flops`) over what a large
      matrix product in the precision of the run reaches on the devices, 0 to 1.

    Args:
        mfu: Measure the rate of a matrix product before the run starts: some 20 ms and 0.8 GB on a GPU, a second or
            more on a CPU. None does so on a GPU only.
    """

    priority = 'NORMAL'  # before the LoggerHook

    def __init__(self, mfu: bool | None = None) -> None:
        self.mfu = mfu
        self.flops_per_second = 0.  # of an MFU of 1, all processes
        self.images = 0
        self.decoded: list[bool] = []  # whether for this sample, where samples say it
        self.spans: list[tuple[Any, Any]] = []
        self.start: Any = None  # of the span that lasts; None in the first iteration and in validations
        self.loader_wait = _LoaderWait()

    def before_run(self, runner) -> None:
        """Let the clock of the loader start after all other hooks of an iteration."""
        if self.loader_wait not in runner.hooks:  # a runner may train, then test
            runner.register_hook(self.loader_wait, priority='LOWEST')

    def before_train(self, runner) -> None:
        """Measure what the device can do, if MFU is wanted."""
        self.model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self.device = next(self.model.parameters()).device
        self.flops_per_second = 0.
        self.start, self.spans = None, []
        kind = self.device.type
        if training_flops(self.model) and (kind == 'cuda' if self.mfu is None else self.mfu):
            with runner.optim_wrapper.optim_context(runner.model):
                dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
            self.flops_per_second = matmul_rate(self.device, dtype) * get_world_size()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Count images; where a line of the log follows, hand it the means since the last one."""
        if self.start is None:  # the first iteration
            self._begin()
            return
        self.images += num_images(data_batch)
        self.decoded += [sample.decoded for sample in data_samples_of(data_batch) if 'decoded' in sample]
        if log_line_follows(runner, batch_idx):
            self._pause()
            seconds = sum(_seconds(*span) for span in self.spans)
            images_per_s = self.images * get_world_size() / seconds
            means = dict(images_per_s=images_per_s, data_wait=min(self.loader_wait.seconds / seconds, 1.))
            if self.decoded:
                means['decoded_per_s'] = images_per_s * sum(self.decoded) / len(self.decoded)
            if self.flops_per_second:
                # Counted anew: the share of hidden patches may change.
                means['mfu'] = images_per_s * training_flops(self.model) / self.flops_per_second
            for name, value in means.items():
                runner.message_hub.update_scalar(f'train/{name}', value)
            self._begin()

    def before_val(self, runner) -> None:
        """Stop the clock."""
        if self.start is not None:
            self._pause()

    def after_val(self, runner) -> None:
        """Let it go on."""
        if self.spans:
            self.start = self._now()

    def _begin(self) -> None:
        self.images, self.decoded, self.spans = 0, [], []
        self.start, self.loader_wait.seconds = self._now(), 0.

    def _pause(self) -> None:
        self.spans.append((self.start, self._now()))

    def _now(self) -> Any:
        if self.device.type != 'cuda':
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


class _LoaderWait(Hook):
    """Seconds from the end of an iteration, or of what came between, to the begin of the next."""

    def __init__(self) -> None:
        self.seconds = 0.

    def before_train_epoch(self, runner) -> None:
        self.since = time.perf_counter()

    def after_val(self, runner) -> None:
        self.since = time.perf_counter()

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.seconds += time.perf_counter() - self.since

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.since = time.perf_counter()


def num_images(data_batch: Any) -> int:
    """Images in a batch as a loader of mmpretrain, mmdet or mmseg gives it; of several branches, all."""
    inputs = data_batch['inputs'] if isinstance(data_batch, Mapping) else data_batch[0]
    return sum(map(len, inputs.values())) if isinstance(inputs, Mapping) else len(inputs)


def data_samples_of(data_batch: Any) -> Sequence[BaseDataElement]:
    """The data samples of a batch; none where a loader gives no list of them."""
    samples = data_batch.get('data_samples') if isinstance(data_batch, Mapping) else None
    known = isinstance(samples, list | tuple) and samples and isinstance(samples[0], BaseDataElement)
    return samples if known else ()


def _seconds(start: Any, end: Any) -> float:
    if isinstance(start, float):
        return end - start
    end.synchronize()
    return start.elapsed_time(end) / 1e3
