"""A checkpoint says what it is and where it comes from, and a run that contradicts it is stopped."""

import copy
import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from conftest import tiny_mae_cfg
from mmengine import Config
from mmengine.registry import init_default_scope
from tiny.tools import CONFIG, ROOT

from mae_plugin.engine.checkpoint_hooks import CheckpointCardHook
from mae_plugin.registry import MODELS
from mae_plugin.utils.hashing import file_sha256
from mae_plugin.weights.card import COMPARED, disagreements, lineage, make_card
from mae_plugin.weights.checkpoint import card_of
from mae_plugin.weights.files import CARD_KEY, save_safetensors

pytest_plugins = ['tiny.tools']


def card(parents=(), **changes):
    """The card of the tiny masked autoencoder; ``changes`` go to its backbone."""
    cfg = Config(dict(model=tiny_mae_cfg(**changes), odd=dict(object=len, pair=(1, float('inf')))))
    return make_card(MODELS.build(cfg.model), cfg, parents)


def test_what_it_says():
    found = card()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found['format'], found['task'], found['channel_order']) == (1, 'pretraining', 'rgb')
    assert (found['mean'], found['std']) == ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    given = dict(type='PlainViT', img_size=[64, 64], patch_size=[16, 16], grid=[4, 4], in_chans=3, embed_dim=48,
                 depth=3, num_heads=3, mlp_ratio=4., out_type='raw', with_cls_token=True, window_size=0, rel_pos=None)
    assert found['backbone'].items() >= given.items() and 'init_cfg' not in found['backbone']
    assert found['decoder'] == dict(type='MAEDecoder', decoder_embed_dim=32, decoder_depth=2, decoder_num_heads=4,
                                    mlp_ratio=4., bf16_residual=False)
    assert found['target'] == dict(type='PixelTarget', norm_pix=True)
    assert found['masking'] == dict(type='RandomMasking', mask_ratio=.75, pred_ratio=None)
    assert found['versions'].keys() == {'mae_plugin', 'python', 'torch', 'timm', 'mmengine', 'mmcv'}
    assert found['versions']['torch'] == torch.__version__ and type(found['versions']['torch']) is str
    assert found['config']['model']['backbone']['num_heads'] == 3
    assert found['config']['odd'] == dict(object='<built-in function len>', pair=[1, 'inf'])


def test_a_file_that_a_target_is_made_of_is_known_by_its_content(tmp_path):
    """At another place it is the same; under the same name it may be another."""
    def card_with(name, scale):
        np.savez(tmp_path / name, mean=np.zeros(768), basis=scale * np.eye(768), patch_size=(16, 16), in_chans=3,
                 pixel_mean=[123.675, 116.28, 103.53], pixel_std=[58.395, 57.12, 57.375])
        target = dict(type='mae_plugin.PCATarget', basis=str(tmp_path / name))
        cfg = Config(dict(model=dict(tiny_mae_cfg(), head=dict(type='mae_plugin.PixelReconstructionHead',
                                                               target=target))))
        return make_card(MODELS.build(cfg.model), cfg)
    first, moved, changed = card_with('a.npz', 1), card_with('b.npz', 1), card_with('a.npz', 2)
    assert first['target'] == dict(type='PCATarget', components=96,
                                   basis=f'sha256:{file_sha256(tmp_path / "b.npz")}')
    assert not disagreements(first, moved)
    assert list(disagreements(first, changed)) == ['target']


def test_a_teacher_with_weights_is_another_than_one_without(monkeypatch):
    create = timm.create_model
    monkeypatch.setattr(timm, 'create_model', lambda name, pretrained, **kwargs: create(name, **kwargs))  # no download

    def card_of(pretrained):
        target = dict(type='mae_plugin.FeatureTarget', teacher='test_vit', pretrained=pretrained)
        head = dict(type='mae_plugin.PixelReconstructionHead', target=target)
        preprocessor = dict(type='mae_plugin.MAEDataPreprocessor', mean=[0.] * 3, std=[1.] * 3)
        cfg = Config(dict(model=dict(tiny_mae_cfg(), head=head, data_preprocessor=preprocessor)))
        return make_card(MODELS.build(cfg.model), cfg)
    assert list(disagreements(card_of(False), card_of(True))) == ['target']


@pytest.mark.parametrize('library, path, task, key', [
    ('mmpretrain', 'classification/vit-mini_digits.py', 'classification', 'to_rgb'),
    ('mmdet', 'detection/vitdet_faster-rcnn_vit-mini_digits.py', 'detection', 'bgr_to_rgb'),
    ('mmseg', 'segmentation/upernet_vit-mini_digits.py', 'segmentation', 'bgr_to_rgb'),
])
def test_tasks_agree_with_their_pretraining(library, path, task, key):
    pytest.importorskip(library)
    pretraining = Config.fromfile(ROOT / 'configs/pretrain/mae_vit-mini-p8_digits.py')
    start = make_card(MODELS.build(pretraining.model), pretraining)
    cfg = Config.fromfile(ROOT / 'configs' / path)
    init_default_scope(cfg.default_scope)
    ours = make_card(MODELS.build(cfg.model), cfg)
    assert (ours['task'], ours['target'], ours['decoder']) == (task, None, None)
    assert disagreements(start, ours) == {}
    assert all(ours[name] is not None for name in ('mean', 'std', 'channel_order'))
    cfg.model.data_preprocessor[key] = False
    assert make_card(MODELS.build(cfg.model), cfg)['channel_order'] == 'bgr'
    assert list(disagreements(start, make_card(MODELS.build(cfg.model), cfg))) == ['channel_order']


OTHER = dict(mean=[123.675, 116.28, 103.5], std=[58.395, 57.12, 57.4], channel_order='bgr', patch_size=[8, 8],
             embed_dim=96, depth=4, num_heads=6, mlp_ratio=3., activation='QuickGELU', decoder_num_heads=8,
             target=dict(type='PixelTarget', norm_pix=False))


@pytest.mark.parametrize('name', COMPARED)
def test_each_disagreement_is_named_with_both_values(name):
    ours, stored = card(), card()
    holder = next(part for part in (stored, stored['backbone'], stored['decoder']) if name in part)
    said, holder[name] = holder[name], OTHER[name]
    found = disagreements(stored, ours)
    assert list(found) == [name]
    assert all(text in found[name] for text in (name, str(OTHER[name]), str(said), COMPARED[name]))
    assert disagreements(stored, ours, [name]) == {}
    holder[name] = None  # not known
    assert disagreements(stored, ours) == disagreements({}, ours) == {}


def test_what_may_differ():
    ours = card()
    assert disagreements(dict(ours, mean=[255 * .485, 116.28, 103.531]), ours) == {}
    assert disagreements(card(img_size=96), ours) == {}
    two_channels = copy.deepcopy(ours)
    two_channels.update(mean=[1., 2.], std=[1., 2.], channel_order=None)
    two_channels['backbone']['in_chans'] = 2
    assert disagreements(two_channels, ours) == {}
    assert disagreements(dict(target=dict(norm_pix=True)), ours) == {}  # of another project's file
    assert disagreements(dict(target=dict(norm_pix=False)), ours).keys() == {'target'}
    assert disagreements(dict(mean='x', backbone=3), ours).keys() == {'mean'}  # from a file, which may say anything


def test_where_it_is_kept(tmp_path):
    found = card()
    assert card_of(dict(meta={CARD_KEY: found}), 'a.pth') == found
    for content in ({}, dict(meta={}), dict(meta=None), dict(meta={CARD_KEY: 'x'}), {'a': torch.ones(1)}):
        assert card_of(content, 'a.pth') is None
    for given in (found, None):
        save_safetensors(tmp_path / 'a.safetensors', {'a': torch.ones(1)}, given)
        assert card_of({'a': torch.ones(1)}, str(tmp_path / 'a.safetensors')) == given


def test_lineage():
    grandparent = lineage('far/away/a.pth', 'aa', dict(task='pretraining'))
    assert grandparent == [dict(file='a.pth', sha256='aa', task='pretraining')]
    assert lineage('timm://vit', 'bb', dict(parents=grandparent)) == [
        dict(file='timm://vit', sha256='bb', task=None), *grandparent]
    assert lineage('c.pth', None, None) == [dict(file='c.pth', sha256=None, task=None)]


@pytest.fixture
def runner():
    cfg = Config(dict(model=tiny_mae_cfg()))
    return SimpleNamespace(model=MODELS.build(cfg.model), cfg=cfg, _resume=False, _load_from='start.pth')


@pytest.fixture
def log(monkeypatch):
    said = []
    monkeypatch.setattr('mae_plugin.engine.checkpoint_hooks.print_log', lambda text, logger: said.append(text))
    return said


def stored_by(hook, runner):
    checkpoint = dict(meta={})
    hook.before_save_checkpoint(runner, checkpoint)
    return checkpoint['meta'][CARD_KEY]


def test_a_start_that_disagrees_stops_the_run(runner, log):
    stored = card(num_heads=6, mlp_ratio=2.)
    checkpoint = dict(meta={CARD_KEY: stored})
    with pytest.raises(ValueError) as raised:
        CheckpointCardHook(allow=['depth']).after_load_checkpoint(runner, checkpoint)
    message = str(raised.value)
    assert message.startswith('start.pth ') and 'num_heads is 6 in the file and 3 in the config' in message
    assert 'mlp_ratio is 2.0' in message and 'default_hooks.card.allow=["depth","mlp_ratio","num_heads"]' in message
    CheckpointCardHook(allow=['num_heads', 'mlp_ratio']).after_load_checkpoint(runner, checkpoint)
    runner._resume = True
    with pytest.raises(ValueError, match='num_heads'):
        CheckpointCardHook(allow=['mlp_ratio']).after_load_checkpoint(runner, checkpoint)
    assert not log
    CheckpointCardHook().after_load_checkpoint(runner, {})
    assert len(log) == 1 and 'start.pth has no card' in log[0]


@pytest.mark.parametrize('allow', [['depht'], 'mean'])
def test_allow_is_checked(allow):
    with pytest.raises(ValueError, match='allow=.*is not a list of names from mean, std, .*num_heads'):
        CheckpointCardHook(allow=allow)


def test_what_init_cfg_loaded_is_compared_and_becomes_the_parent(runner):
    older = lineage('timm://x', 'cc', None)
    stored = card(older, patch_size=8)
    stored['target']['norm_pix'], stored['decoder']['decoder_num_heads'] = False, 2
    loaded = dict(file='some/where/a.pth', sha256='bb', card=stored)
    hook = CheckpointCardHook()
    runner.model.backbone.loaded_from = loaded
    with pytest.raises(ValueError, match=r'a.pth holds .*patch_size is \[8, 8\] in the file and \[16, 16\]') as raised:
        hook.before_train(runner)
    assert 'target' not in str(raised.value) and 'decoder' not in str(raised.value)  # which is new
    resized = dict(type='mae_plugin.MAEPretrained', checkpoint='a.pth', resize=True)
    for runner.model.backbone.init_cfg in (resized, [resized]):
        hook.before_train(runner)
    parents = [dict(file='a.pth', sha256='bb', task='pretraining'), *older]
    assert stored_by(hook, runner)['parents'] == parents
    runner.model.loaded_from = dict(loaded, card=dict(stored, backbone={}))
    message = 'decoder_num_heads is 2 .* 4 .*target is .*False.* in the file and .*True.*model.head.target'
    with pytest.raises(ValueError, match=message):
        hook.before_train(runner)


def test_without_a_start_there_are_no_parents(runner):
    hook = CheckpointCardHook()
    hook.before_train(runner)
    assert stored_by(hook, runner)['parents'] == []


def test_parents_through_load_from_and_resume(run_tool, tmp_path):
    """Three runs, one from the other; a resumed one keeps the parents of its start."""
    def train(name, *options, resume=()):
        code, out, err = run_tool('train', CONFIG, '--work-dir', tmp_path / name, *resume, '--cfg-options',
                                  'default_hooks.checkpoint.interval=1', 'param_scheduler=[]', *options)
        assert code == 0, out + err
        return sorted((tmp_path / name).glob('iter_*.pth'))[-1]

    def parents(file):
        return torch.load(file, weights_only=True)['meta'][CARD_KEY]['parents']

    first = train('first', 'train_cfg.max_iters=1')
    assert parents(first) == []
    digest = hashlib.sha256(first.read_bytes()).hexdigest()
    expected = [dict(file=first.name, sha256=digest, task='other')]
    second = train('second', 'train_cfg.max_iters=2', f'load_from={first}')
    second_parents = parents(second)
    (tmp_path / 'second/iter_2.pth').unlink()
    (tmp_path / 'second/last_checkpoint').unlink()
    first.unlink()  # no longer needed
    resumed = train('second', 'train_cfg.max_iters=2', resume=['--resume'])
    third = train('third', 'train_cfg.max_iters=1', f'load_from={resumed}')
    assert second_parents == parents(resumed) == expected
    assert parents(third) == [dict(file='iter_2.pth', sha256=file_sha256(resumed), task='other'), *expected]
