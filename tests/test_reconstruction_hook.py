"""Pictures while a run goes on: the run is the same, bit for bit, and nothing that goes wrong with them ends it."""

import json
import logging
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import tiny_mae_cfg
from mmengine import Config
from mmengine.structures import BaseDataElement
from PIL import Image
from tiny.generated import make_images
from tiny.processes import train
from tiny.tools import TINY, run_tool  # noqa: F401

from mae_plugin.engine import ReconstructionHook, reconstruction_hook
from mae_plugin.models import Target
from mae_plugin.registry import HOOKS, MODELS
from mae_plugin.utils.chain import final_metrics
from mae_plugin.visualization.reconstruction import reconstruct
from mae_plugin.weights.safe_load import load_file

CONFIG, FSDP = TINY / 'tiny_mae.py', TINY / 'tiny_mae_fsdp.py'
HOOK = ['default_hooks.reconstruction.interval=4', 'default_hooks.reconstruction.num_images=2']
WITHOUT = ['default_hooks.reconstruction.interval=None']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """With images in it."""
    folder = tmp_path_factory.mktemp('hook')
    make_images(folder / 'data/images')
    return folder


def pictures(work_dir):
    """The pictures of a run, by their names."""
    return {file.name: np.asarray(Image.open(file)) for file in sorted(work_dir.glob('*/vis_data/vis_image/*.png'))}


def scalars(work_dir):
    lines = next(work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize('changes', [[], ['--no-validate']], ids=['validation', 'training images'])
def test_training_is_the_same_with_and_without(folder, run_tool, monkeypatch, changes):  # noqa: F811
    monkeypatch.chdir(folder)
    states = []
    for name, options in ((f'with{len(changes)}', HOOK), (f'without{len(changes)}', WITHOUT)):
        code, out, err = run_tool('train', CONFIG, *changes, '--work-dir', name, '--cfg-options', *options)
        assert code == 0, out + err
        states.append(load_file(folder / name / 'iter_6.pth'))
    for part in ('state_dict', 'optimizer'):
        torch.testing.assert_close(states[0][part], states[1][part], rtol=0, atol=0)
    run = folder / f'with{len(changes)}'
    found = pictures(run)
    assert [*found] == ['reconstruction_4.png', 'reconstruction_6.png']  # the interval and the end
    first, last = found.values()
    assert first.shape == last.shape
    half = first.shape[1] // 2  # originals and masks are the same, predictions not
    np.testing.assert_array_equal(first[80:, :half], last[80:, :half])
    assert not np.array_equal(first[80:, half:], last[80:, half:])
    psnr = [(line['step'], line['reconstruction/psnr']) for line in scalars(run) if 'reconstruction/psnr' in line]
    assert [step for step, _ in psnr] == [4, 6] and all(0 < value < 40 for _, value in psnr)
    assert not pictures(folder / f'without{len(changes)}')
    metrics = [final_metrics(folder / f'{name}{len(changes)}') for name in ('with', 'without')]
    assert metrics[0].keys() == metrics[1].keys() > {'loss' if changes else 'mae/psnr'}


def test_the_first_of_two_processes_draws(folder):
    for name, options in (('ddp', WITHOUT), ('ddp_with', HOOK)):
        codes, said = train(folder, 2, CONFIG, '--work-dir', folder / name, '--cfg-options', *options)
        assert codes == [0, 0], said
    states = [load_file(folder / name / 'iter_6.pth')['state_dict'] for name in ('ddp', 'ddp_with')]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    assert [*pictures(folder / 'ddp_with')] == ['reconstruction_4.png', 'reconstruction_6.png']
    assert said.count('Reconstruction of 2 images: PSNR') == 2


def test_fsdp_is_not_disturbed(folder):
    codes, said = train(folder, 2, FSDP, '--work-dir', folder / 'fsdp', '--cfg-options', *HOOK)
    assert codes == [0, 0], said
    assert 'no process has a whole model with FSDP' in said and not pictures(folder / 'fsdp')


class Drawn:
    """A visualizer that keeps what it gets."""

    def __init__(self):
        self.images, self.scalars = {}, {}

    def add_image(self, name, image, step):
        self.images[step] = image

    def add_scalar(self, name, value, step):
        self.scalars[step] = value


class Images(list):
    """Draws random numbers, and counts."""

    def __getitem__(self, index):
        noise = random.random() + np.random.rand() + torch.rand(1).item()
        sample = BaseDataElement(metainfo=dict(sample_key=(0, 0, 99)))
        return dict(inputs=torch.full((3, 64, 64), int(10 * index + noise), dtype=torch.uint8), data_samples=sample)


def runner_of(model, count=8):
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=Images(range(count))))
    cfg = Config(dict(val_evaluator=dict(data_range=510)))
    return SimpleNamespace(cfg=cfg, model=model, visualizer=Drawn(), iter=1, max_iters=100, val_loop=None,
                           train_loop=loop, logger=logging.getLogger('test'))


@pytest.fixture
def warnings(monkeypatch):
    said = []
    monkeypatch.setattr(reconstruction_hook, 'print_log', lambda message, logger, level: said.append(message))
    return said


def test_images_are_spread_and_keyed_and_nothing_else_changes(tiny_mae, warnings):
    hook, runner = ReconstructionHook(interval=2, seed=7), runner_of(tiny_mae.train())
    tiny_mae.neck.eval()  # as a user's part may be, of its own accord
    modes = [module.training for module in tiny_mae.modules()]
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    hook.before_train(runner)
    hook.after_train_iter(runner, 0)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected
    assert [module.training for module in tiny_mae.modules()] == modes and all(
        parameter.grad is None for parameter in tiny_mae.parameters())
    assert [sample['data_samples'].sample_key for sample in hook.samples] == [(7, 0, i) for i in (0, 2, 4, 6)]
    assert [*runner.visualizer.images] == [2] and runner.visualizer.images[2].dtype == np.uint8
    runner.iter = 2
    hook.after_train_iter(runner, 0)
    assert [*runner.visualizer.scalars] == [2] and not warnings
    psnr = reconstruct(tiny_mae.eval(), hook.samples, data_range=510).psnr
    assert runner.visualizer.scalars[2] == pytest.approx(np.mean(psnr), abs=1e-4)
    usual = reconstruct(tiny_mae, hook.samples).psnr
    np.testing.assert_allclose(np.subtract(psnr, usual), 20 * np.log10(2), atol=1e-4)


def test_a_failure_is_one_warning(tiny_mae, warnings):
    hook, runner = ReconstructionHook(interval=1), runner_of(tiny_mae.train())
    runner.visualizer.add_image = lambda *args: (_ for _ in ()).throw(OSError('the disk is full'))
    hook.before_train(runner)
    for runner.iter in range(3):
        hook.after_train_iter(runner, 0)
    assert len(warnings) == 1 and 'OSError: the disk is full' in warnings[0] and tiny_mae.training


class Mean(Target):
    dim = 1

    def forward(self, imgs, mask):
        return self._patches(imgs, mask).mean(dim=-1, keepdim=True)


def test_a_target_without_pixels_is_half_a_picture_and_one_warning(warnings):
    cfg = tiny_mae_cfg()
    cfg['head']['target'] = dict(type=Mean)
    hook, runner = ReconstructionHook(interval=1), runner_of(MODELS.build(cfg))
    hook.before_train(runner)
    for runner.iter in range(2):
        hook.after_train_iter(runner, 0)
    assert len(warnings) == 1 and 'is a Mean' in warnings[0]
    assert [*runner.visualizer.images] == [1, 2] and not runner.visualizer.scalars


def test_the_runs_of_tasks_are_left_alone(warnings):
    hook, runner = ReconstructionHook(interval=1), runner_of(torch.nn.Linear(1, 1))
    hook.before_train(runner)
    hook.after_train_iter(runner, 0)
    assert not warnings and not runner.visualizer.images


def test_it_can_be_switched_off(tiny_mae, warnings):
    hook, runner = ReconstructionHook(interval=None), runner_of(tiny_mae)
    hook.before_train(runner)
    runner.iter = 99
    hook.after_train_iter(runner, 0)
    assert not warnings and not runner.visualizer.images


def test_it_is_on_by_default():
    cfg = Config.fromfile(TINY.parents[1] / 'configs/pretrain/mae_vit-base-p16_in1k.py')
    hook = HOOKS.build(cfg.default_hooks.reconstruction)
    assert (hook.interval, hook.num_images) == (5000, 4)


@pytest.mark.parametrize('setting', ['interval', 'num_images'])
def test_settings_that_cannot_be(setting):
    with pytest.raises(ValueError, match=f'{setting}=0 is not a whole number of at least 1'):
        ReconstructionHook(**{setting: 0})


@pytest.mark.gpu
def test_a_recorded_step_is_not_disturbed(folder, run_tool, monkeypatch):  # noqa: F811
    monkeypatch.chdir(folder)
    states = []
    for name, options in (('graph_with', HOOK), ('graph', WITHOUT)):
        code, out, err = run_tool('train', CONFIG, '--work-dir', name, '--cfg-options', *options,
                                  'default_hooks.fast.cuda_graph=True', 'optim_wrapper.dtype=bfloat16')
        assert code == 0 and 'a CUDA graph of the step' in out + err, out + err
        states.append(load_file(folder / name / 'iter_6.pth')['state_dict'])
    torch.testing.assert_close(*states, rtol=0, atol=0)
