"""The training loop that finds its place in the stream from the iteration alone."""

from collections.abc import Sequence

import torch
from mmengine.dist import broadcast_object_list
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop, Runner
from mmengine.runner.base_loop import BaseLoop
from torch.utils.data import BatchSampler, DataLoader

from mae_plugin.datasets.samplers import KeyedSampler
from mae_plugin.registry import LOOPS

from .prefetch import prefetch


@LOOPS.register_module()
class KeyedIterTrainLoop(IterBasedTrainLoop):
    """``IterBasedTrainLoop`` over a :class:`KeyedSampler`: resumed, it goes on with the stream's next batch at once.

    Before the first batch is asked for, the sampler is told the runner's seed (a resume may have changed it after the
    loader was built) and its position: how many samples the run has drawn. Nothing is replayed or skipped, also where
    the number of ranks or the batch size is another than before; ``samples_seen`` in the checkpoint's message hub
    carries the count.

    Args:
        runner: the runner.
        dataloader: loader, or config of one, with a ``mae_plugin.KeyedSampler`` and PyTorch's own batches.
        max_iters: iterations to train.
        val_begin: iteration that begins validating.
        val_interval: iterations between validations.
        dynamic_intervals: (milestone, interval) pairs: the validation interval from a milestone on.
        prefetch: copy each batch to the GPU, and decode there what the workers left encoded, while the one before is
            trained on, see :func:`~.prefetch.prefetch`; one that was copied and not trained on is not counted. Its
            parity was not measured on a GPU.

    Raises:
        ValueError: if the loader has another sampler, or batches that may be of another size, or if images are repeated
            within a batch.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, max_iters: int, val_begin: int = 1,
                 val_interval: int = 1000, dynamic_intervals: Sequence[tuple[int, int]] | None = None,
                 prefetch: bool = False) -> None:
        BaseLoop.__init__(self, runner, dataloader)
        loader = self.dataloader
        batches = loader.batch_sampler
        if type(batches) is not BatchSampler or not isinstance(batches.sampler, KeyedSampler):
            sampler = loader.sampler if type(batches) is BatchSampler else batches
            raise ValueError(f'KeyedIterTrainLoop: train_dataloader has the sampler {type(sampler).__name__}; it needs '
                             "sampler=dict(type='mae_plugin.KeyedSampler'), a batch_size and no batch_sampler")
        # An idle loader, because mmengine 0.10.7 starts the workers here, when no checkpoint has been read yet. It
        # draws a seed for them: FlexibleRunner, which builds the model after the loop, would begin with other weights.
        with torch.random.fork_rng(devices=[]):
            super().__init__(runner, DataLoader(loader.dataset), max_iters, val_begin, val_interval, dynamic_intervals)
        self.dataloader = loader
        self.dataloader_iterator = None
        self.prefetch = prefetch
        if getattr(loader.dataset, 'repeats', 1) > 1:
            self._prepare_repeats()

    def _prepare_repeats(self) -> None:
        """Lets the workers hold the further crops of the images they decode, if they will be asked for them."""
        dataset, batches = self.dataloader.dataset, self.dataloader.batch_sampler
        ranks, workers = batches.sampler.world_size, max(self.dataloader.num_workers, 1)
        repeats, distance = dataset.repeats, dataset.repeat_distance
        batch = batches.batch_size * ranks
        if distance < batch:
            raise ValueError(
                f'KeyedIterTrainLoop: train_dataloader.dataset.repeat_distance={distance} is less than the batch of '
                f'all processes, {batch}, which would hold an image twice; give a multiple of {batch * workers}')
        turn = batch * workers if workers > 1 else ranks  # samples after which the same worker is asked again
        said = f'Repeated augmentation: {repeats} crops of each image, {distance:,} samples apart'
        if distance % turn == 0:
            dataset.crops_to_hold = (repeats - 1) * distance // (ranks * workers)
            self.runner.logger.info(f'{said}; each loader worker holds up to {dataset.crops_to_hold:,} crops.')
        else:
            below = distance // turn * turn
            fitting = ' or '.join(f'{number:,}' for number in (below, below + turn) if number)
            self.runner.logger.warning(
                f'{said}, but each image is decoded {repeats} times, by another worker each time: decoded once with '
                f'train_dataloader.dataset.repeat_distance={fitting}, a multiple of {turn:,} (batch of all processes x '
                'workers). The crops are others then.')

    def _seek(self) -> None:
        """Starts the loader at the sample that follows those of the iterations done."""
        seed = [self.runner.seed]
        broadcast_object_list(seed)  # rank 0's: with diff_rank_seed=True each rank has its own
        batches = self.dataloader.batch_sampler
        batches.sampler.seed = seed[0]
        batch = batches.batch_size * batches.sampler.world_size
        seen = self.runner.message_hub.runtime_info.get('samples_seen') if self._iter else None
        position = self._iter * batch if seen is None else seen
        if position != self._iter * batch:
            self.runner.logger.info(
                f'The batch of all ranks is {batch} now. The {self._iter:,} iterations before drew {position:,} '
                'samples, and the stream goes on after them. Schedules and max_iters count iterations.')
        batches.sampler.set_position(position)
        self._samples_seen = position
        self.dataloader_iterator = iter(self.dataloader)
        if self.prefetch:
            model = self.runner.model.module if is_model_wrapper(self.runner.model) else self.runner.model
            self.dataloader_iterator = prefetch(
                self.dataloader_iterator, next(model.parameters()).device,
                getattr(model.data_preprocessor, 'decode', None))

    def run_iter(self, data_batch) -> None:
        """Trains on one batch and counts its samples; the hooks that save see the new count."""
        batches = self.dataloader.batch_sampler
        self._samples_seen += batches.batch_size * batches.sampler.world_size
        self.runner.message_hub.update_info('samples_seen', self._samples_seen)
        super().run_iter(data_batch)

    def run(self) -> torch.nn.Module:
        """Trains from the current iteration to the last one.

        Returns:
            The trained model.
        """
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        try:
            self._seek()
            while self._iter < self._max_iters and not self.stop_training:
                self.runner.model.train()
                self.run_iter(next(self.dataloader_iterator))
                self._decide_current_val_interval()
                if (self.runner.val_loop is not None and self._iter >= self.val_begin
                        and (self._iter % self.val_interval == 0 or self._iter == self._max_iters)):
                    self.runner.val_loop.run()
        finally:
            self.dataloader_iterator = None  # ends its workers and its thread
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model
