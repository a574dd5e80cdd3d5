"""A resumed run sees the batches that the undisturbed run would have seen."""

import multiprocessing
import threading
from contextlib import nullcontext

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.structures import BaseDataElement
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

from mae_plugin.datasets.sample_key import SampleKey
from mae_plugin.datasets.samplers import KeyedSampler
from mae_plugin.engine import loops
from mae_plugin.weights.safe_load import load_file


class Numbers(Dataset):
    """Seven samples that carry their keys."""

    metainfo = dict(num_images=7)
    reads = 0

    def __len__(self):
        return 7

    def __getitem__(self, key):
        Numbers.reads += 1
        key = SampleKey.of(key)
        sample = BaseDataElement(metainfo=dict(sample_key=tuple(key)))
        return dict(inputs=torch.tensor([float(key.index)]), data_samples=sample)


class Line(BaseModel):
    """The smallest model a runner trains."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        loss = self.layer(torch.stack(inputs)).square().mean()
        return dict(loss=loss) if mode == 'loss' else data_samples


class Recorder(Hook):
    """Keeps the keys of each batch, and when there was a validation."""

    def __init__(self):
        self.batches = []
        self.validations = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.batches.append([tuple(sample.sample_key) for sample in data_batch['data_samples']])

    def after_val(self, runner):
        self.validations.append(runner.iter)


class Nothing(BaseMetric):
    """A metric that reports that it was asked."""

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(seen=len(results))


KEYED = dict(dataset=Numbers(), sampler=dict(type='mae_plugin.KeyedSampler'), batch_size=2, num_workers=0)


@pytest.fixture(autouse=True)
def _read_checkpoints_safely(monkeypatch):
    monkeypatch.setitem(CheckpointLoader._schemes, '', load_file)


@pytest.fixture
def runner(tmp_path):
    """``runner(max_iters, ...)`` makes a runner in its own folder; its hook ``recorder`` keeps the batches."""
    def make(max_iters, resume_from=None, seed=None, loader=None, prefetch=False, **kwargs):
        recorder = Recorder()
        result = Runner(
            model=Line(), work_dir=str(tmp_path / str(len(made))), experiment_name=f'{tmp_path}-{len(made)}',
            train_dataloader=loader if isinstance(loader, DataLoader) else KEYED | (loader or {}),
            train_cfg=dict(type='mae_plugin.KeyedIterTrainLoop', max_iters=max_iters, val_begin=2, val_interval=4,
                           prefetch=prefetch),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=.01)), custom_hooks=[recorder],
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=3)),
            load_from=resume_from, resume=resume_from is not None, randomness=dict(seed=seed), log_level='ERROR',
            **kwargs)
        result.recorder = recorder
        made.append(result)
        return result

    made = []
    yield make
    for result in made:
        loader = getattr(result._train_loop, 'dataloader', None)
        if loader is not None and loader._iterator is not None:
            loader._iterator._shutdown_workers()  # left to the garbage collector, they take ten seconds


@pytest.mark.parametrize('loader', [
    dict(), dict(num_workers=2), dict(num_workers=2, persistent_workers=True)], ids=['0', '2', 'persistent'])
def test_six_iterations_equal_three_and_three(runner, loader):
    whole = runner(6, loader=loader)
    whole.train()
    # No seed is given: the second run has drawn another one for its loader before it reads the first one's.
    second = runner(6, resume_from=f'{whole.work_dir}/iter_3.pth', loader=loader)
    second.train()
    assert second.recorder.batches == whole.recorder.batches[3:]
    keys = [key for batch in whole.recorder.batches for key in batch]
    assert len(keys) == 12 and {seed for seed, _, _ in keys} == {whole.seed}
    assert sorted(index for _, epoch, index in keys if epoch == 0) == list(range(7))


def test_a_resume_reads_no_sample_twice(runner):
    whole = runner(6)
    whole.train()
    Numbers.reads = 0
    runner(6, resume_from=f'{whole.work_dir}/iter_3.pth').train()
    assert Numbers.reads == 6


def test_workers_do_not_start_before_the_run(runner, monkeypatch):
    monkeypatch.setattr(multiprocessing.Process, 'start', None)
    assert runner(6, loader=dict(num_workers=2)).train_loop.dataloader.num_workers == 2


def test_a_batch_copied_ahead_is_not_counted(runner, monkeypatch):
    """It is read again by the run that goes on."""
    monkeypatch.setattr(BaseDataPreprocessor, 'decode', lambda self, data: data, raising=False)
    plain = runner(6, seed=3)
    plain.train()
    whole = runner(6, seed=3, prefetch=True)
    Numbers.reads = 0
    whole.train()
    assert Numbers.reads == 14, 'the batch after the last one was asked for, too'
    assert whole.message_hub.get_info('samples_seen') == 12
    second = runner(6, resume_from=f'{whole.work_dir}/iter_3.pth', prefetch=True)
    second.train()
    assert whole.recorder.batches == plain.recorder.batches
    assert second.recorder.batches == plain.recorder.batches[3:]


@pytest.mark.parametrize('fails', [True, False])
def test_no_thread_outlives_a_run_that_fails_or_stops(runner, monkeypatch, fails):
    monkeypatch.setattr(BaseDataPreprocessor, 'decode', lambda self, data: data, raising=False)
    seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        seen.extend(thread for thread in threading.enumerate() if thread.name.startswith('prefetch'))
        if len(seen) == 2:
            if fails:
                raise RuntimeError('of the step')
            runner.train_loop.stop_training = True
    monkeypatch.setattr(Recorder, 'before_train_iter', before_train_iter)
    with pytest.raises(RuntimeError, match='of the step') if fails else nullcontext():
        runner(6, prefetch=True).train()
    assert len(seen) == 2 and not any(thread.is_alive() for thread in seen)


def test_position_counts_the_samples_of_all_ranks(runner):
    sampler = dict(type='mae_plugin.KeyedSampler', rank=1, world_size=3)
    whole = runner(6, seed=5, loader=dict(sampler=sampler))
    whole.train()
    second = runner(6, resume_from=f'{whole.work_dir}/iter_3.pth', loader=dict(sampler=sampler))
    second.train()
    assert second.recorder.batches == whole.recorder.batches[3:]
    assert [epoch for _, epoch, _ in second.recorder.batches[0]] == [(18 + 1) // 7, (18 + 4) // 7]


def test_a_resume_with_another_batch_goes_on_after_the_samples_drawn(runner):
    """Three batches of 2, then two of 3: the stream is that of six batches of 2, none twice and none left out."""
    whole = runner(6)
    whole.train()
    second = runner(5, resume_from=f'{whole.work_dir}/iter_3.pth', loader=dict(batch_size=3))
    second.train()
    stream = [key for batch in whole.recorder.batches for key in batch]
    assert [key for batch in second.recorder.batches for key in batch] == stream[6:]
    third = runner(7, resume_from=f'{second.work_dir}/iter_5.pth')  # 12 samples were drawn, not 5 x 2
    third.train()
    longer = runner(8, seed=whole.seed)
    longer.train()
    assert third.recorder.batches == longer.recorder.batches[6:]


def test_a_ready_made_loader_gets_the_seed_of_rank_0(runner, monkeypatch):
    def broadcast(seeds):
        assert seeds == [5]
        seeds[0] = 4
    monkeypatch.setattr(loops, 'broadcast_object_list', broadcast)
    loader = DataLoader(Numbers(), batch_size=3, sampler=KeyedSampler(Numbers(), seed=0),
                        collate_fn=runner(1).build_dataloader(KEYED).collate_fn)
    run = runner(2, seed=5, loader=loader)
    run.train()
    assert [seed for batch in run.recorder.batches for seed, _, _ in batch] == [4] * 6


def test_validates_at_intervals_and_at_the_end(runner):
    run = runner(6, val_dataloader=KEYED | dict(sampler=dict(type='DefaultSampler', shuffle=False)), val_cfg=dict(),
                 val_evaluator=[dict(type=Nothing)])
    run.train()
    assert run.recorder.validations == [4, 6] and run.iter == 6


@pytest.mark.parametrize('loader', [
    dict(sampler=dict(type='InfiniteSampler')),
    dict(batch_sampler=dict(type=type('Pairs', (BatchSampler,), {}), drop_last=True)),
    DataLoader(Numbers(), sampler=RandomSampler(Numbers())),
], ids=['sampler', 'batch_sampler', 'loader'])
def test_another_sampler_is_refused(runner, loader):
    with pytest.raises(ValueError, match=r'has the sampler (Infinite|Pairs|Random).*mae_plugin\.KeyedSampler'):
        runner(6, loader=loader).train()
