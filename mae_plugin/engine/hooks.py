"""Hooks: what the ranks of a run exchange, a checkpoint that must fit the model, a last validation that was missed."""

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook, RuntimeInfoHook
from mmengine.model import BaseTTAModel, is_model_wrapper
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
class CheckpointFitsHook(Hook):
    """Stop when a checkpoint that is resumed or tested does not hold every weight of the model, in its size.

    MMEngine warns and goes on with the random weights. What the file holds beyond the model is left to that warning.

    Args:
        resume: The checkpoint must also hold what a run needs to go on.

    Raises:
        ValueError: The checkpoint does not fit; the message counts what is wrong and names the first of each kind. Or
            the run to resume had a schedule of another length.
    """

    priority = 'LOWEST'  # after hooks that swap weights in the checkpoint, as EMA does

    def __init__(self, resume: bool = False):
        self.resume = resume

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compare names and shapes, and the parts needed to resume."""
        path = runner._load_from
        absent = {'meta', 'message_hub', 'optimizer', 'state_dict'} - checkpoint.keys()
        if self.resume and absent:
            raise ValueError(
                f'{path} holds no {", ".join(sorted(absent))}: a run cannot go on from it. '
                'To start a new run from its weights, set load_from or init_cfg instead of --resume')
        stored = {name.removeprefix('module.'): value for name, value in
                  checkpoint.get('state_dict', checkpoint).items()}
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):  # of several processes; of --tta
            model = model.module
        expected = {name: value for name, value in model.state_dict().items() if 'num_batches_tracked' not in name}
        missing = [name for name in expected if name not in stored]
        resized = [name for name in expected if name in stored and stored[name].shape != expected[name].shape]
        problems = []
        if missing:
            problems.append(f'{len(missing)} of the {len(expected)} tensors are missing (the first: {missing[0]})')
        if resized:
            name = resized[0]
            problems.append(f'{len(resized)} are of another size (the first: {name}, {tuple(stored[name].shape)} in '
                            f'the file and {tuple(expected[name].shape)} in the model)')
        if problems:
            raise ValueError(f'{path} is a checkpoint of another model: {"; ".join(problems)}')
        if self.resume:
            self._check_schedule(runner, checkpoint, path)

    @staticmethod
    def _check_schedule(runner, checkpoint: dict, path: str) -> None:
        """Stop where the run has another length: the schedule comes from the file, and past its end the rate stays."""
        if isinstance(runner.param_schedulers, list) and checkpoint.get('param_schedulers'):
            ends = [max(scheduler.end for scheduler in runner.param_schedulers),
                    max(state.get('end', 0) for state in checkpoint['param_schedulers'])]
            if ends[0] != ends[1]:
                raise ValueError(
                    f'the learning-rate schedule of {path} ends at {ends[1]:,}, that of the config at {ends[0]:,}: '
                    'resume with the settings it had (train_cfg.max_iters, --fit-batch and the batch of all '
                    'processes), or start a new run from its weights in another --work-dir '
                    f'(--cfg-options load_from={path})')


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
