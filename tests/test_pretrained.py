import argparse

import pytest
import timm
import torch
from conftest import tiny_mae_cfg

from mae_plugin.models import PlainViT
from mae_plugin.models.pos_embed import resample_pos_embed
from mae_plugin.models.rel_pos import resample_side
from mae_plugin.models.resize import resize
from mae_plugin.registry import MODELS
from mae_plugin.utils.hashing import file_sha256
from mae_plugin.weights.checkpoint import read_weights
from mae_plugin.weights.convert import convert
from mae_plugin.weights.formats import FORMATS
from mae_plugin.weights.inspection import inspect_checkpoint

TASKS = dict(
    classify=dict(out_type='avg_featmap'),
    segment=dict(out_type='featmap', out_indices=(0, 1, 2), init_values=1., rel_pos=dict(type='RelPosBias')),
    detect=dict(out_type='featmap', with_cls_token=False, window_size=2, window_block_indexes=(0, 1),
                rel_pos=dict(type='DecomposedRelPos')))


@pytest.fixture
def pretrained(tiny_mae):
    for parameter in tiny_mae.parameters():
        torch.nn.init.normal_(parameter)
    return tiny_mae


@pytest.fixture
def checkpoint(pretrained, tmp_path):
    torch.save(dict(state_dict=pretrained.state_dict(), meta=dict(iter=3)), tmp_path / 'iter_3.pth')
    return tmp_path / 'iter_3.pth'


def task_backbone(checkpoint, **changes):
    cfg = dict(type='PlainViT', img_size=64, embed_dim=48, depth=3, num_heads=3,
               init_cfg=dict(type='mae_plugin.MAEPretrained', checkpoint=str(checkpoint))) | changes
    model = MODELS.build(cfg)
    model.init_weights()
    return model


@pytest.mark.parametrize('task', TASKS)
def test_every_encoder_tensor_arrives(checkpoint, pretrained, task):
    model = task_backbone(checkpoint, **TASKS[task])
    source = pretrained.backbone.state_dict()
    added = {'ls1', 'ls2', 'rel_pos', 'fc_norm'}
    for name, value in model.state_dict().items():
        if not added & set(name.split('.')):
            assert torch.equal(value, source[name]), name


def test_features_of_the_task_are_those_of_pretraining(checkpoint, pretrained):
    imgs = torch.randn(2, 3, 64, 64)
    assert torch.equal(task_backbone(checkpoint)(imgs)[0], pretrained.backbone(imgs)[0])


def test_authors_layouts(pretrained, tmp_path):
    """Encoder only, encoder with decoder, and a training file with its arguments."""
    encoder = pretrained.backbone.state_dict()
    decoder = pretrained.neck.state_dict()
    files = dict(encoder=dict(model=encoder), full=dict(model=encoder | decoder),
                 training=dict(model=encoder | decoder, optimizer=dict(state={}), epoch=799,
                               args=argparse.Namespace(lr=.1)), bare=encoder)
    for name, content in files.items():
        torch.save(content, tmp_path / f'{name}.pth')
        model = task_backbone(tmp_path / f'{name}.pth', out_type='featmap')
        assert torch.equal(model.blocks[1].mlp.fc1.weight, encoder['blocks.1.mlp.fc1.weight'])


def test_a_fine_tuned_file_gives_its_backbone(pretrained, tmp_path):
    state = {f'backbone.{name}': value for name, value in pretrained.backbone.state_dict().items()}
    torch.save(dict(state_dict=state | {'roi_head.bbox_head.fc.weight': torch.zeros(2)}), tmp_path / 'det.pth')
    with pytest.raises(ValueError, match='det.pth was fine-tuned for detection .*roi_head.* init_cfg.fine_tuned=True'):
        task_backbone(tmp_path / 'det.pth')
    model = task_backbone(tmp_path / 'det.pth', init_cfg=dict(
        type='mae_plugin.MAEPretrained', checkpoint=str(tmp_path / 'det.pth'), fine_tuned=True))
    assert torch.equal(model.pos_embed, pretrained.backbone.pos_embed)


def test_the_log_says_what_was_loaded(checkpoint, caplog, capsys):
    from mmengine.logging import MMLogger
    MMLogger.get_instance('pretrained', logger_name='pretrained', log_level='INFO')
    task_backbone(checkpoint, **TASKS['detect'])
    said = capsys.readouterr()
    said = said.out + said.err + caplog.text
    assert 'loaded 39 of 45 tensors' in said
    assert 'start fresh' in said and 'blocks.0.attn.rel_pos.rel_pos_h' in said
    assert 'of no use here: cls_token, norm.weight' in said


@pytest.mark.parametrize('changes, message', [
    (dict(embed_dim=96), r'another size.*cls_token \(1, 1, 48\) in the file, \(1, 1, 96\) in the model'),
    (dict(patch_size=8, img_size=32), r'patch_embed.proj.weight \(48, 3, 16, 16\) in the file'),
    (dict(img_size=96),
     r'grid of 4x4 patches, the model has img_size=\(96, 96\) with a grid of 6x6: set backbone.img_size'),
    (dict(depth=4), 'it lacks blocks.3.norm1.weight'),
    (dict(depth=2), 'it holds blocks.2.norm1.weight'),
])
def test_a_model_of_another_size_is_refused(checkpoint, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        task_backbone(checkpoint, **changes)
    assert str(checkpoint) in str(error.value)


def test_other_files_are_refused(tmp_path):
    torch.save(dict(state_dict={'layer1.0.conv1.weight': torch.zeros(1)}), tmp_path / 'resnet.pth')
    with pytest.raises(ValueError, match='another model: none of its tensors .layer1.0.conv1.weight'):
        task_backbone(tmp_path / 'resnet.pth')
    torch.save(dict(meta=dict(iter=3)), tmp_path / 'empty.pth')
    with pytest.raises(ValueError, match='holds no model'):
        task_backbone(tmp_path / 'empty.pth')
    with pytest.raises(FileNotFoundError, match='nowhere.pth'):
        task_backbone(tmp_path / 'nowhere.pth')
    with pytest.raises(ValueError, match='https://a.org/b.pth is an address; download it'):
        task_backbone('https://a.org/b.pth')
    with pytest.raises(ValueError, match='init_cfg.checkpoint=None: name a file'):
        task_backbone(None, init_cfg=dict(type='mae_plugin.MAEPretrained', checkpoint=None))


def test_another_kind_of_vit(pretrained, tmp_path):
    state = pretrained.backbone.state_dict()
    beit = {name: value for name, value in state.items() if name != 'pos_embed'}
    beit['blocks.0.attn.q_bias'] = torch.ones(48)
    torch.save(beit, tmp_path / 'beit.pth')
    with pytest.raises(ValueError, match='lacks .*pos_embed; it holds blocks.0.attn.q_bias, which no plain'):
        task_backbone(tmp_path / 'beit.pth')
    # Neither its head nor its size is what is wrong.
    torch.save(state | {'head.weight': torch.ones(2, 48), 'dist_token': torch.ones(1)}, tmp_path / 'deit.pth')
    with pytest.raises(ValueError, match='timm has no meaning for .dist_token.: it is not only a plain'):
        task_backbone(tmp_path / 'deit.pth', depth=4)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_large_numbers_are_finite(pretrained, tmp_path, dtype):
    """Their sum is not."""
    state = {name: torch.full_like(value, torch.finfo(dtype).max, dtype=dtype)
             for name, value in pretrained.backbone.state_dict().items()}
    torch.save(state, tmp_path / 'large.pth')
    loaded = read_weights(tmp_path / 'large.pth').state
    assert all(torch.equal(loaded[f'backbone.{name}'], value) for name, value in state.items())


def test_nothing_of_the_encoder_may_be_lost(checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    del content['state_dict']['backbone.blocks.1.attn.proj.bias']
    torch.save(content, checkpoint)
    with pytest.raises(ValueError, match='lacks part of its encoder: backbone.blocks.1.attn.proj.bias'):
        task_backbone(checkpoint)


def test_patches_and_positions_are_resized_where_that_is_asked_for(checkpoint, pretrained):
    init_cfg = dict(type='mae_plugin.MAEPretrained', checkpoint=str(checkpoint), resize=True)
    model = task_backbone(checkpoint, patch_size=8, img_size=48, init_cfg=init_cfg)
    source = pretrained.backbone
    with pytest.raises(ValueError, match='init_cfg.resize=True'):
        task_backbone(checkpoint, patch_size=8, img_size=48)
    torch.testing.assert_close(model.patch_embed.proj.weight, torch.nn.functional.interpolate(
        source.patch_embed.proj.weight, size=(8, 8), mode='bicubic', align_corners=False))
    torch.testing.assert_close(model.pos_embed, resample_pos_embed(source.pos_embed, (4, 4), (6, 6)))
    assert torch.equal(model.blocks[2].mlp.fc2.weight, source.blocks[2].mlp.fc2.weight)
    same = task_backbone(checkpoint, init_cfg=init_cfg)
    assert torch.equal(same.patch_embed.proj.weight, source.patch_embed.proj.weight)


def whole_model(checkpoint, **changes):
    init_cfg = dict(type='mae_plugin.MAEPretrained', checkpoint=str(checkpoint))
    model = MODELS.build(dict(tiny_mae_cfg(**changes), init_cfg=init_cfg))
    model.init_weights()
    return model


@pytest.mark.parametrize('layout', ['ours', 'authors'])
def test_pretraining_goes_on_decoder_included(pretrained, tmp_path, layout):
    state = pretrained.state_dict()
    if layout == 'ours':
        content = dict(state_dict=state)
    else:
        content = dict(model={name.partition('.')[2]: value for name, value in state.items()})
    torch.save(content, tmp_path / 'full.pth')
    loaded = whole_model(tmp_path / 'full.pth').state_dict()
    assert loaded.keys() == state.keys() and all(torch.equal(loaded[name], state[name]) for name in state)


def test_pretraining_does_not_go_on_with_a_fresh_decoder(pretrained, tmp_path):
    torch.save(dict(model=pretrained.backbone.state_dict()), tmp_path / 'encoder.pth')
    with pytest.raises(ValueError, match='encoder.pth holds an encoder only, it lacks mask_token.*backbone'):
        whole_model(tmp_path / 'encoder.pth')
    torch.save(pretrained.state_dict(), tmp_path / 'full.pth')
    with pytest.raises(ValueError, match=r'has img_size=\(96, 96\)'):
        whole_model(tmp_path / 'full.pth', img_size=96)


def test_pretraining_goes_on_with_nothing_else_in_the_file(pretrained, tmp_path):
    torch.save(pretrained.state_dict() | {'teacher.weight': torch.zeros(2)}, tmp_path / 'full.pth')
    with pytest.raises(ValueError, match='full.pth does not fit MaskedAutoencoder: it holds teacher.weight, which'):
        whole_model(tmp_path / 'full.pth')


def test_pretraining_goes_on_at_another_image_size_but_not_with_other_patches(pretrained, tmp_path):
    torch.save(pretrained.state_dict(), tmp_path / 'full.pth')
    init_cfg = dict(type='mae_plugin.MAEPretrained', checkpoint=str(tmp_path / 'full.pth'), resize=True)
    model = MODELS.build(dict(tiny_mae_cfg(img_size=96), init_cfg=init_cfg))
    model.init_weights()
    expected = resample_pos_embed(pretrained.neck.decoder_pos_embed, (4, 4), (6, 6))
    torch.testing.assert_close(model.neck.decoder_pos_embed, expected)
    assert torch.equal(model.neck.decoder_pred.weight, pretrained.neck.decoder_pred.weight)
    model = MODELS.build(dict(tiny_mae_cfg(patch_size=8, img_size=32), init_cfg=init_cfg))
    with pytest.raises(ValueError, match='predicts something else .*head.target.*give init_cfg to the backbone'):
        model.init_weights()


def test_a_vit_that_timm_does_not_have():
    with pytest.raises(ValueError, match='timm://vit_base_patch99: .* among its models are vit_base'):
        task_backbone('timm://vit_base_patch99')


def test_what_timm_has_beside_plain_vits(monkeypatch):
    monkeypatch.setattr(timm, 'create_model', lambda name, pretrained: timm.models.ResNet(
        timm.models.resnet.BasicBlock, [1, 1, 1, 1]))
    with pytest.raises(ValueError, match='timm://resnet is a ResNet; a VisionTransformer is expected'):
        task_backbone('timm://resnet')


def test_other_weights_in_the_file_are_named(pretrained, tmp_path, capsys):
    """timm's training saves the moving average beside the weights."""
    from mmengine.logging import MMLogger
    MMLogger.get_instance('others', logger_name='others', log_level='INFO')
    state = pretrained.backbone.state_dict()
    torch.save(dict(state_dict=state, state_dict_ema=state, optimizer=dict(state={0: 1}), epoch=3), tmp_path / 'a.pth')
    task_backbone(tmp_path / 'a.pth')
    said = ''.join(capsys.readouterr())
    assert 'Other weights in the file, not taken: state_dict_ema.' in said
    assert inspect_checkpoint(tmp_path / 'a.pth')['other weights'] == 'state_dict_ema, which are not read'


def test_a_vit_of_timm(monkeypatch):
    theirs = timm.models.VisionTransformer(img_size=64, patch_size=16, embed_dim=48, depth=3, num_heads=3)
    theirs.pretrained_cfg = dict(mean=(.5, .5, .5), std=(.2, .2, .2))
    torch.nn.init.normal_(theirs.pos_embed)
    monkeypatch.setattr(timm, 'create_model', lambda name, pretrained: {('a.b', True): theirs}[name, pretrained])
    model = task_backbone('timm://a.b')
    imgs = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(model(imgs)[0], theirs.eval().forward_features(imgs), rtol=1e-4, atol=1e-5)
    card = model.loaded_from['card']
    assert card['mean'] == [127.5] * 3 and card['std'] == [51.] * 3 and card['backbone'] == dict(
        type='TimmViT', num_heads=3, activation='GELU')


def test_pretraining_can_start_from_a_checkpoint(checkpoint, pretrained):
    cfg = tiny_mae_cfg(init_cfg=dict(type='mae_plugin.MAEPretrained', checkpoint=str(checkpoint)))
    model = MODELS.build(cfg)
    model.init_weights()
    assert torch.equal(model.backbone.norm.weight, pretrained.backbone.norm.weight)
    assert isinstance(model.backbone, PlainViT)


@pytest.mark.parametrize('task', TASKS)
@pytest.mark.parametrize('name', FORMATS)
def test_each_format_gives_the_same_features_in_each_task(checkpoint, pretrained, tmp_path, name, task):
    imgs = torch.randn(2, 3, 64, 64)
    expected = task_backbone(checkpoint, **TASKS[task]).eval()(imgs)
    for suffix in ('pth', 'safetensors'):
        path = tmp_path / f'{name}.{suffix}'
        convert(checkpoint, path, name, encoder_only=True)
        features = task_backbone(path, **TASKS[task]).eval()(imgs)
        assert len(features) == len(expected)
        assert all(torch.equal(a, b) for a, b in zip(features, expected, strict=True))


def test_what_cannot_be_resized_stays(pretrained):
    state = {name: value.half() for name, value in pretrained.state_dict().items()}
    state['backbone.blocks.0.attn.rel_pos.table'] = torch.zeros(16 + 3, 3)  # of no grid: a side has an odd number
    wanted = {'backbone.patch_embed.proj.weight': torch.zeros(96, 3, 8, 8), 'backbone.norm.weight': torch.zeros(48),
              'backbone.blocks.0.attn.rel_pos.table': torch.zeros(25 + 3, 3)}
    before = dict(state)
    assert resize(state, wanted, (6, 6), None) == []
    assert all(state[name] is value for name, value in before.items())
    # a grid that does not fit the file is not believed; half precision is left for the resizing
    wanted = {'backbone.pos_embed': torch.zeros(1, 37, 48),
              'backbone.patch_embed.proj.weight': torch.zeros(48, 1, 16, 16)}
    said = resize(state, wanted, (6, 6), (4, 5))
    assert said == ['pos_embed 4x4 to 6x6', 'patch filters 3x16x16 to 1x16x16']
    exact = before['backbone.patch_embed.proj.weight'].double().sum(1, keepdim=True)
    torch.testing.assert_close(state['backbone.patch_embed.proj.weight'].double(), exact, rtol=1e-6, atol=1e-6)


def test_resizing_is_proposed_only_where_it_helps(checkpoint):
    with pytest.raises(ValueError) as error:
        task_backbone(checkpoint, embed_dim=96)
    assert 'resize' not in str(error.value)
    with pytest.raises(ValueError) as error:
        task_backbone(checkpoint, mlp_ratio=2.)
    assert 'resize' not in str(error.value)


@pytest.mark.parametrize('in_chans', [1, 2, 4, 6, 13])
def test_another_number_of_channels(checkpoint, in_chans):
    """A grey image gives the same tokens, however many channels it is given in."""
    resized = dict(type='mae_plugin.MAEPretrained', checkpoint=str(checkpoint), resize=True)
    grey = torch.randn(1, 1, 64, 64)
    model = task_backbone(checkpoint, in_chans=in_chans, init_cfg=resized)
    expected = task_backbone(checkpoint).patch_embed(grey.expand(-1, 3, -1, -1))
    tokens = model.patch_embed(grey.expand(-1, in_chans, -1, -1))
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-4)
    weight = model.patch_embed.proj.weight
    source = task_backbone(checkpoint).patch_embed.proj.weight
    for i in range(in_chans if in_chans > 3 else 0):
        torch.testing.assert_close(weight[:, i], source[:, i % 3] / len(range(i % 3, in_chans, 3)))
    with pytest.raises(ValueError, match='patches, channels and relative positions'):
        task_backbone(checkpoint, in_chans=in_chans)


@pytest.mark.parametrize('task, other', [
    ('segment', dict(img_size=96)),
    ('detect', dict(window_size=3)),
])
def test_relative_positions_are_resized_once_as_forward_would(pretrained, tmp_path, task, other):
    """A fine-tuned encoder with positions of another size: the features are those of resizing in every forward."""
    torch.manual_seed(0)
    source = MODELS.build(dict(type='PlainViT', img_size=64, embed_dim=48, depth=3, num_heads=3) | TASKS[task])
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter, std=.3)
    torch.save({f'backbone.{name}': value for name, value in source.state_dict().items()}, tmp_path / 'a.pth')
    init_cfg = dict(type='mae_plugin.MAEPretrained', checkpoint=str(tmp_path / 'a.pth'), resize=True)
    model = task_backbone(tmp_path / 'a.pth', init_cfg=init_cfg, **TASKS[task] | other)
    if task == 'segment':  # the image of 96 pixels makes the source resize its tables itself
        imgs = torch.randn(1, 3, 96, 96)
        for a, b in zip(model(imgs), source(imgs), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    else:
        expected = resample_side(source.blocks[0].attn.rel_pos.rel_pos_h, 3)
        torch.testing.assert_close(model.blocks[0].attn.rel_pos.rel_pos_h, expected)
        assert torch.equal(model.blocks[2].attn.rel_pos.rel_pos_w, source.blocks[2].attn.rel_pos.rel_pos_w)
    with pytest.raises(ValueError, match='init_cfg.resize=True'):
        task_backbone(tmp_path / 'a.pth', **TASKS[task] | other)


def test_blocks_may_differ_in_what_a_task_adds(tmp_path):
    """ViTDet's convolutions are in some blocks only, and its windows have smaller tables of positions."""
    task = dict(TASKS['detect'], conv_block_indexes=(2, ))
    source = task_backbone('', init_cfg=None, **task)
    torch.save({f'backbone.{name}': value for name, value in source.state_dict().items()}, tmp_path / 'a.pth')
    model = task_backbone(tmp_path / 'a.pth', **task)
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in model.state_dict().items())


def test_registers_are_named(pretrained, tmp_path):
    state = pretrained.backbone.state_dict()
    state |= {'reg_token': torch.zeros(1, 2, 48), 'pos_embed': torch.zeros(1, 19, 48)}
    torch.save(state, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='a.pth does not fit PlainViT: it holds reg_token, which the model has no'):
        task_backbone(tmp_path / 'a.pth')


def test_half_of_what_a_task_adds_is_a_damaged_file(tmp_path):
    source = MODELS.build(dict(type='PlainViT', img_size=64, embed_dim=48, depth=3, num_heads=3) | TASKS['detect'])
    state = {f'backbone.{name}': value for name, value in source.state_dict().items()}
    del state['backbone.blocks.1.attn.rel_pos.rel_pos_w']
    torch.save(state, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='it lacks blocks.1.attn.rel_pos.rel_pos_w'):
        task_backbone(tmp_path / 'a.pth', **TASKS['detect'])


def test_the_card_tells_the_shape_of_the_grid(pretrained, tmp_path):
    """As many patches in another shape: 2x8 for 4x4."""
    card = dict(backbone=dict(grid=[2, 8]))
    torch.save(dict(meta=dict(mae_plugin=card), state_dict=pretrained.state_dict()), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='a grid of 2x8 patches, the model has .* a grid of 4x4'):
        task_backbone(tmp_path / 'a.pth')
    init_cfg = dict(type='mae_plugin.MAEPretrained', checkpoint=str(tmp_path / 'a.pth'), resize=True)
    model = task_backbone(tmp_path / 'a.pth', init_cfg=init_cfg)
    torch.testing.assert_close(model.pos_embed, resample_pos_embed(pretrained.backbone.pos_embed, (2, 8), (4, 4)))
    assert torch.equal(task_backbone(tmp_path / 'a.pth', img_size=(32, 128)).pos_embed, pretrained.backbone.pos_embed)


def test_what_was_loaded_is_known_afterwards(checkpoint):
    loaded_from = task_backbone(checkpoint).loaded_from
    assert loaded_from == dict(file=str(checkpoint), sha256=file_sha256(checkpoint), card=None)


def test_pretraining_does_not_go_on_from_a_fine_tuned_file(pretrained, tmp_path):
    state = pretrained.backbone.state_dict() | {'head.weight': torch.zeros(5, 48), 'head.bias': torch.zeros(5)}
    torch.save(dict(model=state), tmp_path / 'mae_finetuned.pth')
    with pytest.raises(ValueError, match='mae_finetuned.pth was fine-tuned for classification .*head.fc.w.* a pret'):
        whole_model(tmp_path / 'mae_finetuned.pth')
    with pytest.raises(ValueError, match='init_cfg.fine_tuned=True'):
        task_backbone(tmp_path / 'mae_finetuned.pth')
    norm = {f'fc_norm.{part}': pretrained.backbone.norm.state_dict()[part] for part in ('weight', 'bias')}
    torch.save(pretrained.backbone.state_dict() | norm, tmp_path / 'no_head.pth')
    with pytest.raises(ValueError, match='no_head.pth was fine-tuned for classification .it holds fc_norm.weight'):
        task_backbone(tmp_path / 'no_head.pth')
