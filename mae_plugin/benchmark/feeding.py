"""The training loop on image files, by mode of the data set, against the same step on random images."""

import gc
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import Config

from mae_plugin.benchmark.loaders import with_data
from mae_plugin.benchmark.loop import time_feeding
from mae_plugin.utils.cli import describe


def measure(cfg: Config, modes: Sequence[str], workers: Sequence[int], batch: int, rounds: int, steps: int,
            say: Callable[[str], None] = print, save: Callable[[dict], None] = lambda result: None) -> dict:
    """Train from files, by mode and number of workers, in turns with the same step on images that lie on the device.

    Args:
        cfg: A pretraining config.
        modes: As for :func:`~mae_plugin.benchmark.loaders.data_options`.
        workers: Numbers of worker processes.
        batch: Batch size.
        rounds: Blocks of each kind.
        steps: Iterations of a block.
        say: Told what goes on.
        save: Given the result so far after each mode.

    Returns:
        ``rows``, each with seconds of a step ``in_loop`` and ``bare`` and the share of time of ``waits``, by round, and
        the most percent that the GPU's ``jpeg_engine`` was busy, if its driver tells; and ``errors`` by mode.
    """
    result: dict = dict(rows=[], errors={})
    for mode in modes:
        name = mode.partition(':')[0]
        for count in workers:
            try:
                with tempfile.TemporaryDirectory(prefix='mae_benchmark') as work_dir, _jpeg_engine() as busy:
                    times = time_feeding(with_data(cfg, mode), batch, count, steps, rounds, Path(work_dir))
            except Exception as error:  # the others go on
                result['errors'][name] = describe(error)
                say(f'{name}: {result["errors"][name]}')
                break
            result['rows'].append(dict(name=name, mode=mode, workers=count, batch=batch, **times,
                                       jpeg_engine=max(busy, default=None)))
            say(f'{name}, {count} workers: {batch / times["in_loop"][-1]:.4g} images/s')
            gc.collect()  # the runner, with its model
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            save(result)
    return result


@contextmanager
def _jpeg_engine() -> Iterator[list[float]]:
    """A list that in the end has how many percent of each half second the GPU's JPEG decoder was busy."""
    busy: list[float] = []
    if not torch.cuda.is_available() or not shutil.which('nvidia-smi'):
        yield busy
        return
    command = ['nvidia-smi', '--query-gpu=utilization.jpeg', '--format=csv,noheader,nounits', '-lms', '500']
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield busy
    finally:
        process.terminate()
        busy += [float(line) for line in process.communicate()[0].splitlines() if line.strip().isdigit()]
