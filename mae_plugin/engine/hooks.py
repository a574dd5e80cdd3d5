"""Hooks: what the ranks of a run exchange, and a last validation that was missed."""

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook, RuntimeInfoHook
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from mae_plugin.registry import HOOKS


@HOOKS.register_module()
class MeanLossHook(RuntimeInfoHook):
    """MMEngine's ``RuntimeInfoHook``, except that the logged losses are means over the ranks.

    MMEngine logs what the first rank saw. With the same batch size on every rank the mean equals the loss of the whole
    batch. One all-reduce of all values per iteration; nothing when there is one process. All ranks must log the same
    names. Use it as ``default_hooks.runtime_info``.
    """

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Hand the means of ``outputs`` (name to scalar tensor or number) to the message hub."""
        if outputs and get_world_size() > 1:
            device = next((value.device for value in outputs.values() if isinstance(value, torch.Tensor)), None)
            values = torch.stack([
                torch.as_tensor(value, dtype=torch.float64, device=device).detach().squeeze()
                for value in outputs.values()
            ])
            all_reduce(values, op='mean')
            outputs = dict(zip(outputs, values.tolist(), strict=True))
        super().after_train_iter(runner, batch_idx, data_batch, outputs)


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
