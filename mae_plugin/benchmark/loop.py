"""The step inside the training loop against the bare step."""

import itertools
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mae_plugin.benchmark.contenders import (
    NUM_BATCHES,
    built_model,
    images_of,
    quiet,
    runner_on_random_images,
    silent_runner,
)
from mae_plugin.utils.timing import seconds


class _BetweenHook(Hook):
    """Time blocks of the loop, and between them blocks of the bare step.

    Args:
        steps: Length of a block.
        rounds: After so many blocks of each, and one for warming up, the run ends.
        batches: Images on the device, which the bare step gets in turn.
        lead: Iterations before a block that do not count. With some, the loader's workers end before the bare steps and
            start anew after them: they take no core from these, and save nothing up for the next block.
    """

    priority = 'LOWEST'

    def __init__(self, steps: int, rounds: int, batches: list[Tensor], lead: int = 0) -> None:
        self.steps, self.rounds, self.batches, self.lead = steps, rounds, itertools.cycle(batches), lead
        self.in_loop: list[float] = []
        self.bare: list[float] = []
        self.waits: list[float] = []

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Note the wait for the batch; and that the device is idle before the first iteration."""
        if batch_idx == 0:
            self._begin(0)
        self._wait += time.perf_counter() - self._since

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """At the end of a block: stop the clock, time bare steps, start it again."""
        self._done += 1
        self._since = time.perf_counter()
        if self._done == self.lead:
            self._begin(self.lead)
        if self._done < self.lead + self.steps:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        elapsed = time.perf_counter() - self._start
        self.in_loop.append(elapsed / self.steps)
        self.waits.append(self._wait / elapsed)
        if self.lead:
            runner.train_loop.dataloader_iterator = None
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        elapsed, = seconds(lambda: self._bare_steps(runner, data_batch['data_samples']), device, 1)
        self.bare.append(elapsed / self.steps)
        runner.train_loop.stop_training = len(self.bare) > self.rounds
        if self.lead and not runner.train_loop.stop_training:
            runner.train_loop._seek()
        self._begin(0)

    def _bare_steps(self, runner, data_samples) -> None:
        for imgs in itertools.islice(self.batches, self.steps):
            runner.model.train_step(dict(inputs=imgs, data_samples=data_samples), runner.optim_wrapper)

    def _begin(self, done: int) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._done, self._wait, self._start = done, 0., time.perf_counter()
        self._since = self._start


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
    return _blocks(runner_on_random_images(cfg, batch, work_dir), cfg, batch, steps, rounds)


def time_feeding(cfg: Config, batch: int, workers: int, steps: int, rounds: int, work_dir: Path
                 ) -> dict[str, list[float]]:
    """The same with the images of the config, and ``waits``: the share of the time in the loop that waits for them.

    ``bare`` is the step on random images that lie on the device: what the loop reaches if it never waits.

    Args:
        cfg: A pretraining config.
        batch: Batch size.
        workers: Of the loader.
        steps: Length of a block.
        rounds: Blocks of each.
        work_dir: For what hooks write.
    """
    runner = silent_runner(cfg, cfg.train_dataloader.dataset, batch, workers, False, work_dir)
    # The workers start together, and so do their first batches come.
    return _blocks(runner, cfg, batch, steps, rounds, lead=max(workers, 1))


def _blocks(runner: Runner, cfg: Config, batch: int, steps: int, rounds: int, lead: int = 0) -> dict[str, list[float]]:
    hook = _BetweenHook(steps, rounds, images_of(
        cfg, batch, NUM_BATCHES, 'cuda' if torch.cuda.is_available() else 'cpu'), lead)
    runner.register_hook(hook)
    with quiet():
        runner.train()
    return dict(in_loop=hook.in_loop[1:], bare=hook.bare[1:], waits=hook.waits[1:])


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
