"""The step inside the training loop against the bare step."""

import itertools
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from torch import Tensor

from mae_plugin.benchmark.contenders import NUM_BATCHES, built_model, images_of, quiet, runner_on_random_images
from mae_plugin.utils.timing import seconds


class _BetweenHook(Hook):
    """Time blocks of the loop, and between them blocks of the bare step.

    Args:
        steps: Length of a block.
        rounds: After so many blocks of each, and one for warming up, the run ends.
        batches: Images on the device, which the bare step gets in turn.
    """

    priority = 'LOWEST'

    def __init__(self, steps: int, rounds: int, batches: list[Tensor]) -> None:
        self.steps, self.rounds, self.batches = steps, rounds, itertools.cycle(batches)
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
        elapsed, = seconds(lambda: self._bare_steps(runner, data_batch['data_samples']), device, 1)
        self.bare.append(elapsed / self.steps)
        runner.train_loop.stop_training = len(self.bare) > self.rounds
        self._restart()

    def _bare_steps(self, runner, data_samples) -> None:
        for imgs in itertools.islice(self.batches, self.steps):
            runner.model.train_step(dict(inputs=imgs, data_samples=data_samples), runner.optim_wrapper)

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
    runner = runner_on_random_images(cfg, batch, work_dir)
    hook = _BetweenHook(steps, rounds, images_of(
        cfg, batch, NUM_BATCHES, 'cuda' if torch.cuda.is_available() else 'cpu'))
    runner.register_hook(hook)
    with quiet():
        runner.train()
    return dict(in_loop=hook.in_loop[1:], bare=hook.bare[1:])


class _LossesHook(Hook):

    def __init__(self, steps: int) -> None:
        self.steps, self.losses = steps, []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.losses.append(outputs['loss'].clone())
        runner.train_loop.stop_training = len(self.losses) >= self.steps


def losses_in_loop(cfg: Config, batch: int, dtype: str | None, steps: int, work_dir: Path) -> list[float]:
    """The first losses of the training loop on random images; see :func:`time_loop`."""
    if dtype:
        cfg.optim_wrapper.dtype = dtype
    runner = runner_on_random_images(cfg, batch, work_dir)
    runner.model.load_state_dict(built_model(cfg).state_dict())
    runner.model.init_weights = lambda: None
    hook = _LossesHook(steps)
    runner.register_hook(hook)
    with quiet():
        runner.train()
    return [loss.item() for loss in hook.losses]
