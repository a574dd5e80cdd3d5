"""Two processes on the CPU, with DDP and with FSDP, are one with twice the batch."""

import json

import pytest
import torch
from mmengine import Config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from tiny.generated import make_images
from tiny.processes import train
from tiny.tools import ROOT, TINY, assert_plain, run_tool  # noqa: F401

from mae_plugin.engine import DistributedDataParallel
from mae_plugin.engine.distributed import FSDPStrategy, prepare_launch
from mae_plugin.models import PlainViT

DDP, FSDP = TINY / 'tiny_mae.py', TINY / 'tiny_mae_fsdp.py'
HUGE = ROOT / 'configs/pretrain/mae_vit-huge-p14_in1k-fsdp.py'
CHECKPOINTING = ['+model.backbone.with_cp=True', '+model.neck.with_cp=True']
FUSED, ACCUMULATED = '+optim_wrapper.optimizer.fused=True', '+optim_wrapper.accumulative_counts=2'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """With images in it."""
    folder = tmp_path_factory.mktemp('distributed')
    make_images(folder / 'data/images')
    return folder


def trained(folder, name, count, config, *options, resume=None):
    """Losses by iteration and last checkpoint of six iterations of 4 images, shared by ``count`` processes."""
    arguments = ['--resume', folder / resume / 'iter_3.pth'] if resume else []
    codes, said = train(folder, count, config, '--work-dir', folder / name, *arguments, '--cfg-options',
                        f'train_dataloader.batch_size={4 // count}', '+train_cfg.val_begin=100', *options)
    assert codes == [0] * count, said
    lines = [json.loads(line) for file in (folder / name).glob('*/vis_data/scalars.json')
             for line in file.read_text().splitlines()]
    return {line['step']: line['loss'] for line in lines}, folder / name / 'iter_6.pth'


@pytest.fixture(scope='module')
def one(folder):
    """A process of its own."""
    return trained(folder, 'one', 1, DDP)


@pytest.fixture(scope='module')
def fsdp(folder):
    """Two with FSDP."""
    return trained(folder, 'fsdp', 2, FSDP)


def moments(optimizer):
    """The means of the gradients as one vector, and its parts for the groups."""
    parts = [torch.cat([optimizer['state'][key]['exp_avg'].flatten() for key in group['params']])
             for group in optimizer['param_groups']]
    return torch.cat(parts), [len(part) for part in parts], [g['weight_decay'] for g in optimizer['param_groups']]


def assert_same(found, expected, iterations=range(1, 7)):
    assert found[0] == pytest.approx({i: expected[0][i] for i in iterations}, rel=1e-5)
    ours, theirs = (torch.load(file, weights_only=True) for _, file in (found, expected))
    assert [*ours['state_dict']] == [*theirs['state_dict']]
    (gradients, *groups), (expected_gradients, *expected_groups) = (moments(x['optimizer']) for x in (ours, theirs))
    assert groups == expected_groups
    assert (gradients - expected_gradients).norm() < 1e-5 * expected_gradients.norm()


@pytest.mark.parametrize('options', [[], ['model_wrapper_cfg.static_graph=True', FUSED, *CHECKPOINTING]],
                         ids=['ddp', 'static_graph'])
def test_ddp_is_one_process(folder, one, options):
    assert_same(trained(folder, f'ddp{len(options)}', 2, DDP, *options), one)


def test_with_swapped_parts_too(folder):
    """A ratio that changes, noise, partial prediction and features of several blocks."""
    config = folder / 'parts.py'
    config.write_text(f"""_base_ = [{str(DDP)!r}]
model = dict(
    backbone=dict(out_indices=(0, 1)), masking=dict(pred_ratio=0.3), corruption=dict(type='mae_plugin.GaussianNoise'),
    neck=dict(_delete_=True, type='mae_plugin.CrossMAEDecoder', decoder_embed_dim=32, decoder_depth=2,
              decoder_num_heads=4))
custom_hooks = [dict(type='mae_plugin.MaskRatioHook', start=0.5, end=0.9, steps=3)]
""")
    assert_same(trained(folder, 'parts2', 2, config), trained(folder, 'parts1', 1, config))


def test_fsdp_is_one_process(one, fsdp):
    assert_same(fsdp, one)


def test_fsdp_with_checkpointing_and_accumulated_batches(folder):
    found = trained(folder, 'half', 2, FSDP, 'strategy.model_wrapper.sharding_strategy=SHARD_GRAD_OP', ACCUMULATED,
                    FUSED, *CHECKPOINTING)
    assert_same(found, trained(folder, 'accumulated', 1, DDP, ACCUMULATED))


@pytest.mark.parametrize('name, count, config, resume', [
    ('fsdp_to_fsdp', 2, FSDP, 'fsdp'), ('one_to_fsdp', 2, FSDP, 'one'), ('fsdp_to_one', 1, FSDP, 'fsdp')])
def test_resumed_with_and_without_fsdp(folder, one, fsdp, name, count, config, resume):
    resumed = trained(folder, name, count, config, resume=resume)
    assert_same(resumed, one, iterations=(4, 5, 6))
    assert ('one process has nothing to share out' in (folder / 'out_0.txt').read_text()) == (count == 1)


def test_a_checkpoint_of_fsdp_starts_a_task(fsdp, run_tool):  # noqa: F811
    assert_plain(fsdp[1])
    code, out, _ = run_tool('inspect_checkpoint', fsdp[1])
    assert code == 0 and 'encoder and decoder' in out and 'with the state that resuming needs' in out
    vit = PlainViT(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3,
                   init_cfg=dict(type='mae_plugin.MAEPretrained', checkpoint=str(fsdp[1])))
    vit.init_weights()
    stored = torch.load(fsdp[1], weights_only=True)['state_dict']
    assert all(torch.equal(value, stored[f'backbone.{name}']) for name, value in vit.state_dict().items())


def test_fsdp_is_told_of_another_model(folder, fsdp):
    codes, said = train(folder, 2, FSDP, '--work-dir', folder / 'other', '--resume', fsdp[1], '--cfg-options',
                        'model.backbone.depth=3', 'default_hooks.card.allow=["depth"]')
    assert 1 in codes and 'iter_6.pth is a checkpoint of another model: 12 of the 74 tensors are missing' in said


class Halves(BaseModel):
    """Uses one of its two layers."""

    def __init__(self):
        super().__init__()
        self.used, self.forgotten = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)

    def forward(self, inputs, mode):
        return dict(loss=self.used(inputs).mean())


@pytest.fixture
def alone(tmp_path):
    """A process group of one."""
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path / "store"}', rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize('search', [False, True])
def test_parameters_without_a_gradient_are_named(alone, search):
    model = DistributedDataParallel(Halves(), find_unused_parameters=search)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), 0.1))
    data = dict(inputs=torch.ones(3, 2))
    model.train_step(data, wrapper)
    if search:
        model.train_step(data, wrapper)
    else:
        with pytest.raises(ValueError, match='2 of 4 parameters got no gradient: forgotten.weight, forgotten.bias. '
                                             '.*find_unused_parameters=True'):
            model.train_step(data, wrapper)


def test_other_errors_of_a_step_stay(alone):
    model = DistributedDataParallel(Halves())
    with pytest.raises(RuntimeError, match='shapes'):
        model.train_step(dict(inputs=torch.ones(3, 5)), OptimWrapper(torch.optim.SGD(model.parameters(), 0.1)))


def prepared(*changes):
    cfg = Config.fromfile(HUGE)
    cfg.launcher = 'none'
    cfg.merge_from_dict(dict(changes))
    return cfg


@pytest.mark.parametrize('key, value, text', [
    ('strategy.type', 'FSDPStrategy', "use type='mae_plugin.FSDPStrategy'"),
    ('optim_wrapper.dtype', 'float16', "dtype='bfloat16'"),
    ('optim_wrapper.clip_grad', dict(max_norm=1.), 'optim_wrapper.clip_grad'),
    ('optim_wrapper.optimizer.type', 'mae_plugin.Lars', "'mae_plugin.Lars'"),
    ('custom_hooks', [dict(type='EMAHook'), dict(type='mae_plugin.KNNHook')], 'EMAHook and KNNHook'),
])
def test_what_fsdp_cannot_do(key, value, text):
    cfg = prepared((key, value))
    cfg.launcher = 'pytorch'
    with pytest.raises(ValueError, match='FSDP') as error:
        prepare_launch(cfg)
    assert text in str(error.value)
    cfg.launcher = 'none'
    prepare_launch(cfg)  # one process
    assert 'strategy' not in cfg and 'runner_type' not in cfg


def test_fsdp_needs_the_parameters_themselves(tmp_path):
    with pytest.raises(ValueError, match='use_orig_params=False'):
        FSDPStrategy(model_wrapper=dict(use_orig_params=False), work_dir=str(tmp_path),
                     env_kwargs=dict(launcher='none'))


def test_settings_of_ddp():
    """Those of the shared config; MMEngine's own switch of the search counts, too."""
    cfg = prepared()
    prepare_launch(cfg)
    assert cfg.model_wrapper_cfg == dict(type='mae_plugin.DistributedDataParallel', find_unused_parameters=False,
                                         broadcast_buffers=False, gradient_as_bucket_view=True, static_graph=False)
    cfg.find_unused_parameters = True
    prepare_launch(cfg)
    assert cfg.model_wrapper_cfg.find_unused_parameters
    cfg = prepared(('model_wrapper_cfg.static_graph', True), ('optim_wrapper.accumulative_counts', 4))
    with pytest.raises(ValueError, match='static_graph=True with optim_wrapper.accumulative_counts=4'):
        prepare_launch(cfg)
