"""Several processes without a GPU."""

import os
import subprocess
from datetime import timedelta

import torch.distributed as dist
from mmengine.device import get_device

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


def prepare_cpu_launch(cfg) -> None:
    """Let a Runner with a launcher run on the CPU; does nothing where there is a GPU, or for 'none'.

    MMEngine would set a CUDA device and hand device numbers to DistributedDataParallel. It does neither if the process
    group is there already (with gloo) and the wrapper says ``device_ids=None``.

    Args:
        cfg (mmengine.Config): The config; its ``model_wrapper_cfg`` is completed in place.
    """
    if cfg.launcher == 'none' or get_device() != 'cpu':
        return
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
    wrapper = dict(
        type='MMDistributedDataParallel', broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False))
    cfg.model_wrapper_cfg = {**wrapper, **(cfg.get('model_wrapper_cfg') or {}), 'device_ids': None}


def end_launch() -> None:
    """Leave the process group: a process that ends while its threads run may be aborted, and the job would fail."""
    if dist.is_initialized():
        dist.destroy_process_group()
