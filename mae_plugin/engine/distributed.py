"""Several processes, with or without GPUs: each with the whole model (DDP), or with a share of it (FSDP)."""

import os
import re
import subprocess
from datetime import timedelta

import torch
import torch.distributed as dist
from mmengine._strategy import FSDPStrategy as MMFSDPStrategy
from mmengine.device import get_device
from mmengine.model import MMDistributedDataParallel
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from ..models.layers import Block
from ..registry import MODEL_WRAPPERS, STRATEGIES
from ..weights.checkpoint import shorten

# What the launchers call RANK, WORLD_SIZE and LOCAL_RANK.
_VARIABLES = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
}


def launched_as(launcher: str | None) -> tuple[int, int]:
    """Rank and number of processes as the launcher's environment has them, before there is a process group."""
    rank, world_size, _ = _VARIABLES.get(launcher, ('', '', ''))
    return int(os.environ.get(rank, 0)), int(os.environ.get(world_size, 1))


def prepare_launch(cfg) -> None:
    """Make ``cfg`` fit the launcher and the devices, in place; on the CPU also join the processes.

    MMEngine sets a CUDA device and hands device numbers to DistributedDataParallel. It does neither if the process
    group is there already (with gloo) and the wrapper says ``device_ids=None``. A config for FSDP has nothing to share
    out in a single process, and runs there as any other.

    Args:
        cfg (mmengine.Config): The config.

    Raises:
        ValueError: The config has what does not work with FSDP's shares of a model, or with DDP's static graph.
    """
    strategy = (cfg.get('strategy') or {}).get('type')
    if strategy in ('FSDPStrategy', 'mae_plugin.FSDPStrategy') and cfg.launcher == 'none':
        print('strategy: one process has nothing to share out, so it runs without FSDP')
        cfg.pop('runner_type'), cfg.pop('strategy')
    elif strategy is not None:
        _check_fsdp(cfg, strategy)
    wrapper = dict(type='mae_plugin.DistributedDataParallel', broadcast_buffers=False)
    cfg.model_wrapper_cfg = {**wrapper, **(cfg.get('model_wrapper_cfg') or {})}
    if cfg.model_wrapper_cfg.get('static_graph') and (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1) > 1:
        raise ValueError('model_wrapper_cfg.static_graph=True with optim_wrapper.accumulative_counts='
                         f'{cfg.optim_wrapper.accumulative_counts}: PyTorch cannot do both; set static_graph=False')
    if 'find_unused_parameters' in cfg:  # MMEngine looks at it only where there is no model_wrapper_cfg
        cfg.model_wrapper_cfg.find_unused_parameters = cfg.find_unused_parameters
    if cfg.launcher != 'none' and get_device() == 'cpu':
        cfg.model_wrapper_cfg.device_ids = None
        _join_on_the_cpu(cfg)


def _join_on_the_cpu(cfg) -> None:
    """Make the process group, with gloo."""
    if cfg.launcher != 'pytorch':
        for name, source in zip(_VARIABLES['pytorch'], _VARIABLES[cfg.launcher], strict=True):
            os.environ[name] = os.environ[source]
        os.environ.setdefault('MASTER_PORT', '29500')
    if cfg.launcher == 'slurm' and 'MASTER_ADDR' not in os.environ:
        hosts = subprocess.run(
            ['scontrol', 'show', 'hostname', os.environ['SLURM_NODELIST']], capture_output=True, text=True, check=True)
        os.environ['MASTER_ADDR'] = hosts.stdout.split()[0]
    seconds = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout')
    dist.init_process_group('gloo', **(dict(timeout=timedelta(seconds=seconds)) if seconds else {}))


def _check_fsdp(cfg, strategy: str) -> None:
    """Name what computes something else, or nothing, where a process holds only a share of each parameter."""
    if strategy == 'FSDPStrategy':
        raise ValueError("strategy.type='FSDPStrategy', MMEngine's, cannot resume with PyTorch from 2.1 on, and all "
                         "parameters look like biases there, without weight decay: use type='mae_plugin.FSDPStrategy'")
    if strategy != 'mae_plugin.FSDPStrategy':
        return
    wrapper = cfg.get('optim_wrapper') or {}
    kind = (wrapper.get('optimizer') or {}).get('type', '')
    if wrapper.get('dtype') == 'float16' or wrapper.get('type') == 'AmpOptimWrapper':
        raise ValueError('FSDP with loss scaling: each process would find other overflows; set optim_wrapper.type='
                         "'mae_plugin.AutocastOptimWrapper' and optim_wrapper.dtype='bfloat16' or 'float32'")
    if wrapper.get('clip_grad'):
        raise ValueError('FSDP with optim_wrapper.clip_grad: each process would clip by the norm of its own share; set '
                         'it to None, or train with DDP (runner_type and strategy left out)')
    if kind.rpartition('.')[2].upper() in ('LARS', 'LAMB'):
        raise ValueError(f'FSDP with optim_wrapper.optimizer.type={kind!r}: it needs norms of whole tensors; take one '
                         'that treats each number by itself, as AdamW, or train with DDP')
    hooks = [*(cfg.get('custom_hooks') or ()), *(cfg.get('default_hooks') or {}).values()]
    names = {hook['type'].rpartition('.')[2] for hook in hooks if hook} & {'EMAHook', 'KNNHook', 'Float8Hook'}
    if names:
        raise ValueError(f'FSDP with {" and ".join(sorted(names))}: a process has no whole model to hand it; leave it '
                         'out of the hooks, or train with DDP (runner_type and strategy left out)')


def end_launch() -> None:
    """Leave the process group: a process that ends while its threads run may be aborted, and the job would fail."""
    if dist.is_initialized():
        dist.destroy_process_group()


@MODEL_WRAPPERS.register_module()
class DistributedDataParallel(MMDistributedDataParallel):
    """MMEngine's wrapper for DDP, except that an error for want of gradients names the parameters.

    Args:
        *args: Those of PyTorch's ``DistributedDataParallel``.
        **kwargs: Likewise.
    """

    def train_step(self, data, optim_wrapper) -> dict[str, Tensor]:
        """One step.

        Raises:
            ValueError: Parameters got no gradient in the step before, so that its exchange never ended.
        """
        try:
            return super().train_step(data, optim_wrapper)
        except RuntimeError as error:
            found = re.search(r'did not receive grad for rank \d+: ([\d ]+)', str(error))
            if found is None:
                raise
            trained = [name for name, parameter in self.module.named_parameters() if parameter.requires_grad]
            names = [trained[int(number)] for number in found[1].split()]
            raise ValueError(
                f'{len(names)} of {len(trained)} parameters got no gradient: {shorten(names)}. Freeze them '
                '(requires_grad=False), or let DDP look for such ones in every iteration '
                '(model_wrapper_cfg.find_unused_parameters=True)') from error


@STRATEGIES.register_module()
class FSDPStrategy(MMFSDPStrategy):
    """Each process keeps a share of parameters, gradients and moments, and fetches a block's when it runs.

    For ``runner_type='FlexibleRunner'``. The numbers stay those of DDP: parameters, gradients and their exchange in
    float32, autocast alone computes in half precision. A checkpoint is whole and has the usual names; a run with FSDP
    resumes from one without, and the other way round.

    It differs from MMEngine's in that every transformer block is a unit by default, that it runs on the CPU, that the
    optimizer state is loaded by the arguments PyTorch has since 2.1, and that the shapes of whole parameters
    are known: of a share, which has one dimension, everything looks like a bias, which has no weight decay.

    Args:
        model_wrapper: Arguments of MMEngine's ``MMFullyShardedDataParallel``.
        **kwargs: Those of MMEngine's ``FSDPStrategy``, but ``state_dict_cfg``.

    Raises:
        ValueError: If the wrapper has ``use_orig_params=False``: then there are no parameters to make groups of.
    """

    def __init__(self, *, model_wrapper: dict | None = None, **kwargs) -> None:
        defaults = dict(type='MMFullyShardedDataParallel', use_orig_params=True, auto_wrap_policy=None)
        super().__init__(model_wrapper={**defaults, **(model_wrapper or {})}, state_dict_cfg='full', **kwargs)
        if not self.model_wrapper['use_orig_params']:
            raise ValueError('strategy.model_wrapper.use_orig_params=False leaves no parameters to make groups of for '
                             'the optimizer: leave it out')

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        model.whole_shapes = whole_shapes(model)
        wrapper = self.model_wrapper
        if wrapper['auto_wrap_policy'] is None:
            wrapper['auto_wrap_policy'] = ModuleWrapPolicy({Block})
        if get_device() == 'cpu':
            wrapper['device_id'] = 'cpu'
            # PyTorch would move whole tensors there, free what it moved, and read it: a crash.
            self.state_dict_config.offload_to_cpu = self.optim_state_dict_config.offload_to_cpu = False
        return super()._wrap_model(model)

    def load_checkpoint(self, filename: str, **kwargs) -> dict:
        """Load into host memory: the moments of the whole model may be too large for a device."""
        return super().load_checkpoint(filename, **{**kwargs, 'map_location': 'cpu'})

    def optim_state_dict(self) -> dict:
        """The state of the whole optimizer, its parameters by name; on other ranks than 0 nothing but settings."""
        wrapper = self.optim_wrapper
        extras = {key: value for key, value in wrapper.state_dict().items() if key not in ('state', 'param_groups')}
        return {**FullyShardedDataParallel.optim_state_dict(self.model, wrapper.optimizer), **extras}

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load the state of a whole optimizer, its parameters by name, or by number as without FSDP."""
        names = {parameter: whole_name(name) for name, parameter in self.model.named_parameters()}
        groups = self.optim_wrapper.optimizer.param_groups
        ours = [names[parameter] for group in groups for parameter in group['params']]
        theirs = [key for group in state_dict['param_groups'] for key in group['params']]
        name_of = {key: key if isinstance(key, str) else name for key, name in zip(theirs, ours, strict=True)}
        whole = dict(
            state={name_of[key]: value for key, value in state_dict['state'].items()},
            param_groups=[dict(group, params=[name_of[key] for key in group['params']])
                          for group in state_dict['param_groups']])
        share = FullyShardedDataParallel.optim_state_dict_to_load(self.model, self.optim_wrapper.optimizer, whole)
        self.optim_wrapper.load_state_dict({**state_dict, **share})


def whole_name(name: str) -> str:
    """Name of a parameter without the levels that FSDP puts between."""
    return name.replace('_fsdp_wrapped_module.', '')


def whole_shapes(model: nn.Module) -> dict[str, torch.Size]:
    """Name and shape of all that the state dict of ``model`` has, also where FSDP left a process only a share."""
    return getattr(model, 'whole_shapes', None) or {name: value.shape for name, value in model.state_dict().items()}
