"""Hooks: what the ranks of a run exchange, and a last validation that was missed."""

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import CheckpointHook, Hook, LoggerHook, RuntimeInfoHook
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from mae_plugin.registry import HOOKS

from .optim_wrapper import AutocastOptimWrapper


def log_line_follows(runner, batch_idx: int) -> bool:
    """Whether the logger may write a line after this training iteration: at its interval and at the end of an epoch."""
    loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
    return any(hook.every_n_inner_iters(batch_idx, hook.interval)
               or hook.end_of_epoch(runner.train_dataloader, batch_idx) for hook in loggers)


def checkpoint_follows(runner) -> bool:
    """Whether a checkpoint may be saved after this training iteration."""
    return runner.iter + 1 == runner.max_iters or any(
        isinstance(hook, CheckpointHook) and not hook.by_epoch
        and hook.every_n_train_iters(runner, hook.interval, hook.save_begin) for hook in runner.hooks)


@HOOKS.register_module()
class MeanLossHook(RuntimeInfoHook):
    """MMEngine's ``RuntimeInfoHook``, except that losses stay on the device until they are read, as means over ranks.

    MMEngine asks the device for every logged value in every iteration, which makes the host wait for it, and logs what
    the first rank saw. Here values are kept as they are and fetched at once where something reads them: at a line of
    the log, before a checkpoint or a validation, and at the end. The history is the same, value by value. With the same
    batch size on every rank the mean equals the loss of the whole batch; it takes one all-reduce for all iterations
    since the last line. All ranks must log the same names.

    MMEngine also copies the history of every value in every iteration, a million numbers before it drops the oldest: a
    run becomes slower with its age. ``history`` bounds it.

    Use it as ``default_hooks.runtime_info``.

    Args:
        history: Iterations of which the values are kept; the averages of the log need ``log_processor.window_size``.
    """

    def __init__(self, history: int = 10_000) -> None:
        super().__init__()
        self.history = history
        self.kept: list[dict[str, Tensor | float]] = []
        self.clipped: dict[str, Tensor] = {}

    def before_train(self, runner) -> None:
        """As MMEngine; and the norms of clipped gradients are left to this hook, too."""
        super().before_train(runner)
        if isinstance(runner.optim_wrapper, AutocastOptimWrapper):
            self.clipped = runner.optim_wrapper.clipped = {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Keep ``outputs`` (name to scalar tensor or number), and hand all that is kept on if it is read now."""
        if self.clipped:
            outputs = {**(outputs or {}), **self.clipped}
            self.clipped.clear()
        if outputs:
            self.kept.append({name: value.detach() if isinstance(value, Tensor) else value
                              for name, value in outputs.items()})
        if self._is_read(runner, batch_idx):
            self._hand_on(runner)

    def before_val(self, runner) -> None:
        """Hand on what is kept, for schedulers and hooks that look at a validation."""
        self._hand_on(runner)
        super().before_val(runner)

    def after_train_epoch(self, runner) -> None:
        """Hand on what is kept: a checkpoint may follow."""
        self._hand_on(runner)

    def _is_read(self, runner, batch_idx: int) -> bool:
        """Whether a line of the log or a checkpoint follows this iteration."""
        return log_line_follows(runner, batch_idx) or checkpoint_follows(runner)

    def _hand_on(self, runner) -> None:
        """Give the message hub the means of all that is kept: one wait for the device, one exchange between ranks."""
        values = [value for outputs in self.kept for value in outputs.values()]
        if values:
            device = next((value.device for value in values if isinstance(value, Tensor)), None)
            numbers = torch.stack([torch.as_tensor(value, dtype=torch.float64, device=device).squeeze()
                                   for value in values])
            if get_world_size() > 1:
                all_reduce(numbers, op='mean')
            found = iter(numbers.tolist())
            for outputs in self.kept:
                super().after_train_iter(runner, 0, outputs={name: next(found) for name in outputs})
            self.kept.clear()
        for buffer in runner.message_hub.log_scalars.values():
            buffer.max_length = self.history


@HOOKS.register_module()
class HalfGradientHook(Hook):
    """Send gradients between processes in float16, as ViTDet's recipe does; only DDP's, so not those of one process."""

    def before_train(self, runner) -> None:
        """Give the model's DDP wrapper PyTorch's ``fp16_compress_hook``."""
        if isinstance(runner.model, DistributedDataParallel):  # FSDP and others take hooks of another signature
            runner.model.register_comm_hook(None, fp16_compress_hook)


@HOOKS.register_module()
class LastValidationHook(Hook):
    """Validate a run that is resumed from its last checkpoint.

    The checkpoint of the last iteration is saved before the validation, which a kill may have prevented; resumed,
    MMEngine has nothing left to train, and ends without it.
    """

    priority = 'LOWEST'  # after the hooks that are ready for a validation only then

    def before_train(self, runner) -> None:
        """Validate if no iteration is left."""
        if runner.val_loop is not None and runner.iter >= runner.max_iters:
            runner.val_loop.run()
