"""``--cfg-options``: a change must hit something."""

import random
import string
from pathlib import Path

import pytest
from mmengine.config import Config

from mae_plugin.utils.overrides import _paths, apply_overrides, format_value, parse_value

CONFIG = Path(__file__).parents[1] / 'configs' / 'pretrain' / 'mae_vit-base-p16_in1k.py'


@pytest.fixture
def cfg():
    return Config(dict(
        width=48,
        pipeline=[dict(type='A', scale=(224, 224)), dict(type='B')],
        model=dict(type='M', backbone=dict(width=48, init_cfg=None), sizes=[1, 2]),
        train_dataloader=dict(batch_size=8, dataset=dict(pipeline=[dict(type='A', scale=(224, 224)), dict(type='B')])),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(lr=0.1)),
        param_scheduler=[dict(type='LinearLR', end=5)],
        default_scope=None))


@pytest.mark.parametrize('text, value', [
    ('1', 1), ('1e-4', 1e-4), ('true', True), ('None', None), ('a b', 'a b'), ('', ''), ('[a,b]', ['a', 'b']),
    ('a,b', ['a', 'b']), ('[(1,2),(3,4)]', [(1, 2), (3, 4)]), ('(1,)', (1,)), ("{'a': [1, None]}", {'a': [1, None]}),
    ('"1"', '1'), ('C:\\x', 'C:\\x')
])
def test_values(text, value):
    assert parse_value(text) == value and type(parse_value(text)) is type(value)
    assert parse_value(format_value(value)) == value and type(parse_value(format_value(value))) is type(value)


def test_sets_what_exists_at_any_depth(cfg):
    apply_overrides(cfg, [
        'optim_wrapper.optimizer.lr=0.5', 'param_scheduler.0.end=7', 'model.sizes.1=9', 'default_scope=mmdet',
        'model.backbone.init_cfg={"type": "X", "checkpoint": ""}', 'model.backbone.init_cfg.checkpoint=a.pth',
        'train_dataloader.dataset.pipeline.0.scale=(1,2)'])
    assert cfg.optim_wrapper.optimizer.lr == 0.5 and cfg.param_scheduler[0].end == 7 and cfg.model.sizes == [1, 9]
    assert cfg.default_scope == 'mmdet' and cfg.model.backbone.init_cfg.checkpoint == 'a.pth'
    assert cfg.train_dataloader.dataset.pipeline[0].scale == (1, 2)
    assert 'optim_wrapper' in cfg.pretty_text


@pytest.mark.parametrize('option, message', [
    ('optim_wraper.optimizer.lr=1', 'did you mean optim_wrapper.optimizer.lr'),
    ('param_scheduler.1.end=1', 'did you mean param_scheduler.0.end'),
    ('lr=1', 'did you mean optim_wrapper.optimizer.lr'),
    ('model.backbone.width.x=1', r'\+model.backbone.width.x='),
    ('quite_different=1', r'\+quite_different='),
])
def test_unknown_key(cfg, option, message):
    before = cfg.to_dict()
    with pytest.raises(KeyError, match=message):
        apply_overrides(cfg, [option])
    assert cfg.to_dict() == before


def test_added_key(cfg):
    apply_overrides(cfg, ['+model.head.loss.type=L1', '+find_unused_parameters=True', '+model.sizes=3'])
    assert cfg.model.head.loss.type == 'L1' and cfg.find_unused_parameters is True and cfg.model.sizes == 3


@pytest.mark.parametrize('option, message', [
    ('model', 'takes key=value'),
    ('+model.backbone.width.x=1', "'model.backbone.width' is 48"),
    ('width=64', "'width' is a variable .* set model.backbone.width instead"),
    ('pipeline.0.scale=(1,1)', 'set train_dataloader.dataset.pipeline.0.scale instead'),
    ('train_dataloader.dataset.pipeline.0.scale.1=3', 'give it as a whole'),
])
def test_change_without_effect(cfg, option, message):
    with pytest.raises(ValueError, match=message):
        apply_overrides(cfg, [option])


def test_a_variable_can_be_set_on_request(cfg):
    apply_overrides(cfg, ['+width=64'])
    assert cfg.width == 64


def test_one_letter_typos_of_a_real_config():
    """All are caught, and nearly always the right key is among the proposals."""
    cfg = Config.fromfile(CONFIG)
    paths = {path for path, _ in _paths(cfg._cfg_dict)}
    draw = random.Random(0)
    found = 0
    for key in draw.sample(sorted(path for path in paths if len(path) > 5), 100):
        typo = key
        while typo in paths:
            i = draw.choice([i for i, letter in enumerate(key) if letter.isalpha()])
            typo = key[:i] + draw.choice(string.ascii_lowercase) + key[i + 1:]
        with pytest.raises(KeyError) as error:
            apply_overrides(cfg, [f'{typo}=1'])
        found += f' {key} ' in str(error.value).replace('?', ' ')
    assert found >= 95
