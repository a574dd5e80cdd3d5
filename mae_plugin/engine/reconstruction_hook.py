"""Pictures of how well hidden patches are predicted, while a run goes on."""

import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from mae_plugin.models import MaskedAutoencoder
from mae_plugin.registry import HOOKS

_SIDE = 224  # pixels of a picture's longer side


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Draws originals, what the model sees, what it predicts, and both together, to the visualizer's backends.

    The images are spread evenly over the validation set, or over the training set where there is none; their crops and
    masks are the same each time, so that the pictures of a run show its progress, as ``reconstruction``. Their PSNR is
    logged as ``reconstruction/psnr``, in dB. Training is the same with and without it, bit for bit: the first process
    draws, by the model in eval mode and in float32, and random generators are left as they were.

    Where the target cannot be turned back into pixels, originals and what is seen are drawn, after one warning. With
    FSDP no process has a whole model, so that none is drawn, and an error while drawing ends the pictures, not the run,
    both with one warning. In the runs of tasks the hook does nothing.

    Args:
        interval: Iterations between pictures; there is one at the end, too. None draws none.
        num_images: Images of a picture.
        seed: Of the masks.
        bands: Channels to show, see :class:`~mae_plugin.visualization.reconstruction.Display`.

    Raises:
        ValueError: If ``interval`` or ``num_images`` is not at least 1.
    """

    priority = 'LOWEST'  # after the iteration's metrics are logged

    def __init__(self, interval: int | None = 5000, num_images: int = 4, seed: int = 0,
                 bands: Sequence[int] | None = None) -> None:
        for name, value in dict(interval=1 if interval is None else interval, num_images=num_images).items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f'ReconstructionHook: {name}={value!r} is not a whole number of at least 1')
        self.interval, self.num_images, self.seed, self.bands = interval, num_images, seed, bands
        self.samples: list[dict] = []
        self.off = False

    def before_train(self, runner) -> None:
        """Say why there will be no pictures, or only half of them."""
        from mae_plugin.visualization.reconstruction import why_no_pixels  # not with the package: it imports matplotlib
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self.samples, self.off = [], True
        if self.interval is None or not isinstance(model, MaskedAutoencoder):  # of a task
            return
        if isinstance(runner.model, FullyShardedDataParallel):
            _warn('no process has a whole model with FSDP, so none is drawn')
            return
        self.off = False
        if reason := why_no_pixels(model):
            _warn(reason)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Draw, if it is time."""
        last = runner.iter + 1 == runner.max_iters
        if self.off or not is_main_process() or not (last or self.every_n_train_iters(runner, self.interval)):
            return
        try:
            with _unchanged(runner.model):
                self._draw(runner)
        except Exception as error:  # of a data set, a disk, a backend: none is worth a run
            self.off = True
            _warn(f'no more of them in this run, for drawing failed ({type(error).__name__}: {error})')

    def _draw(self, runner) -> None:
        from mae_plugin.visualization.reconstruction import data_range_of, is_normalised, panel, reconstruct
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        step = runner.iter + 1
        if not self.samples:
            self.samples = self._choose((runner.val_loop or runner.train_loop).dataloader.dataset)
        pictures = reconstruct(model.eval(), self.samples, self.bands, data_range_of(runner.cfg))
        sheet = panel(f'Iteration {step:,}', pictures, is_normalised(model), _SIDE)
        runner.visualizer.add_image('reconstruction', np.asarray(sheet.to_image()), step)
        if pictures.psnr:
            psnr = float(np.mean(pictures.psnr))
            runner.visualizer.add_scalar('reconstruction/psnr', psnr, step)
            runner.logger.info(f'Reconstruction of {len(self.samples)} images: PSNR {psnr:.2f} dB')

    def _choose(self, dataset) -> list[dict]:
        """Samples spread over ``dataset``, with the keys of their masks."""
        count = min(self.num_images, len(dataset))
        indices = [i * len(dataset) // count for i in range(count)]
        samples = [dataset[index] for index in indices]
        for index, sample in zip(indices, samples, strict=True):
            sample['data_samples'].set_field((self.seed, 0, index), 'sample_key', field_type='metainfo')
        return samples


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Leave random generators and the modules' modes, training or not, as they were."""
    modes = [(module, module.training) for module in model.modules()]
    states = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        random.setstate(states[0])
        np.random.set_state(states[1])


def _warn(message: str) -> None:
    print_log(f'Pictures of reconstructions: {message}', logger='current', level=logging.WARNING)
