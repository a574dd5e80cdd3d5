"""The step inside the training loop against the bare step."""

import itertools
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from mae_plugin.benchmark.contenders import NUM_BATCHES, images_of, quiet, runner_on_random_images
from mae_plugin.benchmark.matmul import seconds


class _BetweenHook(Hook):
    """Time blocks of the loop, and between them blocks of the bare step.

    Args:
        steps: Length of a block.
        batches: What the bare step gets in turn.
    """

    priority = 'LOWEST'

    def __init__(self, steps: int, batches: list[dict]) -> None:
        self.steps, self.batches = steps, itertools.cycle(batches)
        self.in_loop: list[float] = []
        self.bare: list[float] = []

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Note that the device is idle before the first iteration; its loading is not part of the first block."""
        if batch_idx == 0:
            self._restart()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """At the end of a block: stop the clock, time bare steps, start it again."""
        if (batch_idx + 1) % self.steps:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.in_loop.append((time.perf_counter() - self._start) / self.steps)
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        elapsed, = seconds(lambda: self._bare_steps(runner), device, 1)
        self.bare.append(elapsed / self.steps)
        self._restart()

    def _bare_steps(self, runner) -> None:
        for batch in itertools.islice(self.batches, self.steps):
            runner.model.train_step(batch, runner.optim_wrapper)

    def _restart(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._start = time.perf_counter()


def time_loop(cfg: Config, batch: int, dtype: str | None, steps: int, rounds: int, work_dir: Path
              ) -> dict[str, list[float]]:
    """Seconds of a step ``in_loop`` and ``bare``, by block; the first block, which warms up, is left out.

    Args:
        cfg: A pretraining config.
        batch: Batch size.
        dtype: Precision, or None for the config's.
        steps: Length of a block.
        rounds: Blocks of each.
        work_dir: For what hooks write.
    """
    if dtype:
        cfg.optim_wrapper.dtype = dtype
    cfg.train_cfg.max_iters = steps * (rounds + 1)
    runner = runner_on_random_images(cfg, batch, work_dir)
    hook = _BetweenHook(steps, [dict(inputs=imgs) for imgs in images_of(
        cfg, batch, NUM_BATCHES, 'cuda' if torch.cuda.is_available() else 'cpu')])
    runner.register_hook(hook)
    with quiet():
        runner.train()
    return dict(in_loop=hook.in_loop[1:], bare=hook.bare[1:])
