"""Every format: a file of the real library comes to us and gives the same outputs, and goes back bit by bit."""

import pytest
import timm
import torch
from conftest import tiny_mae_cfg
from mmengine.registry import init_default_scope

from mae_plugin.models import PlainViT
from mae_plugin.registry import MODELS
from mae_plugin.weights.formats import FORMATS, from_plugin, recognise, to_plugin

SIZES = dict(img_size=64, patch_size=16, embed_dim=48, depth=3, num_heads=3)
MM_ARCH = dict(embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=192)


def randomise(model):
    """Every number of ``model`` is another: nothing can hide behind its initial value."""
    torch.manual_seed(0)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            with torch.no_grad():
                value.copy_(torch.rand_like(value) + .5 if 'var' in name else torch.randn_like(value) * .2)
    return model.eval()


def there_and_back(state, name, container=''):
    """Our names; back again every tensor is bit-identical."""
    assert recognise(state, container) == name
    ours, unknown = to_plugin(state, name)
    assert not unknown
    back, homeless = from_plugin(ours, name)
    assert not homeless
    assert back.keys() == state.keys()
    for key, value in state.items():
        assert back[key].dtype == value.dtype and torch.equal(back[key], value), key
    return ours


def load(model, state, part=''):
    """Load what begins with ``part``; nothing may be missing or left over."""
    model.load_state_dict({name.removeprefix(part): value for name, value in state.items() if name.startswith(part)})
    return model.eval()


@pytest.fixture
def imgs():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def build_mmpretrain(cfg):
    init_default_scope('mmpretrain')
    from mmpretrain.registry import MODELS as theirs
    return randomise(theirs.build(cfg))


def classifier(out_type, neck=None, **backbone):
    """mmpretrain's classifier with our backbone."""
    init_default_scope('mmpretrain')
    return MODELS.build(dict(
        type='mmpretrain.ImageClassifier', neck=neck, head=dict(type='LinearClsHead', num_classes=5, in_channels=48),
        backbone=dict(type='mae_plugin.PlainViT', out_type=out_type, **SIZES, **backbone)))


def test_authors(golden):
    """Their names and outputs are those of tests/golden, which test_golden.py compares."""
    state = golden('mae_64px_p16').under('param/')
    ours = there_and_back(state, 'authors', 'model')
    assert ours.keys() == MODELS.build(tiny_mae_cfg()).state_dict().keys()
    encoder = {name: value for name, value in state.items() if 'mask_token' not in name and 'decoder' not in name}
    assert there_and_back(encoder, 'authors', 'model').keys() == {f'backbone.{name}' for name in encoder}
    assert recognise(encoder) == 'timm'


def test_authors_classifiers(golden):
    encoder = {name: value for name, value in golden('mae_64px_p16').under('param/').items()
               if name.startswith(('cls', 'pos', 'patch', 'blocks'))}
    head = {'head.weight': torch.randn(5, 48), 'head.bias': torch.randn(5)}
    norm = {'fc_norm.weight': torch.randn(48), 'fc_norm.bias': torch.randn(48)}
    ours = there_and_back(encoder | norm | head, 'authors', 'model')
    load(classifier('avg_featmap'), ours)
    # Linear probing puts a batch norm before the classifier.
    norm = {'norm.weight': torch.randn(48), 'norm.bias': torch.randn(48)}
    probe = {'head.0.running_mean': torch.randn(48), 'head.0.running_var': torch.rand(48),
             'head.0.num_batches_tracked': torch.tensor(7), 'head.1.weight': torch.randn(5, 48),
             'head.1.bias': torch.randn(5)}
    ours = there_and_back(encoder | norm | probe, 'authors', 'model')
    load(classifier('cls_token', neck=dict(
        type='ClsBatchNormNeck', input_features=48, affine=False)), ours)


def test_timm(imgs):
    theirs = randomise(timm.models.VisionTransformer(**SIZES, num_classes=0))
    ours = there_and_back(theirs.state_dict(), 'timm')
    features = load(PlainViT(**SIZES), ours, 'backbone.')(imgs)[0]
    torch.testing.assert_close(features, theirs.forward_features(imgs), rtol=0, atol=1e-5)


@pytest.mark.parametrize('pool, out_type', [('avg', 'avg_featmap'), ('token', 'cls_token')])
def test_timm_classifiers(imgs, pool, out_type):
    theirs = randomise(timm.models.VisionTransformer(**SIZES, num_classes=5, global_pool=pool, init_values=.1))
    ours = there_and_back(theirs.state_dict(), 'timm')
    model = load(classifier(out_type, init_values=.1), ours)
    torch.testing.assert_close(model.head(model.extract_feat(imgs)), theirs(imgs), rtol=0, atol=1e-5)


def test_mmpretrain_pretraining(imgs):
    """Loss, prediction and positions: their table, halves swapped, is carried."""
    theirs = build_mmpretrain(dict(
        type='MAE',
        backbone=dict(type='MAEViT', arch=MM_ARCH, img_size=64, patch_size=16, mask_ratio=.75),
        neck=dict(type='MAEPretrainDecoder', num_patches=16, patch_size=16, in_chans=3, embed_dim=48,
                  decoder_embed_dim=32, decoder_depth=2, decoder_num_heads=4, mlp_ratio=4.),
        head=dict(type='MAEPretrainHead', norm_pix=True, patch_size=16,
                  loss=dict(type='PixelReconstructionLoss', criterion='L2'))))
    ours = there_and_back(theirs.state_dict(), 'mmpretrain')
    model = load(MODELS.build(tiny_mae_cfg()), ours)
    torch.manual_seed(3)
    expected = theirs.loss(imgs, None)['loss']
    torch.manual_seed(3)
    torch.testing.assert_close(model.loss(imgs)['loss'], expected, rtol=0, atol=1e-5)
    features = theirs.backbone(imgs, None)[-1]  # nothing hidden
    torch.testing.assert_close(model.backbone(imgs)[0], features, rtol=0, atol=1e-5)
    assert torch.equal(model.backbone.pos_embed, theirs.backbone.pos_embed)


def test_mmpretrain_classifier(imgs):
    theirs = build_mmpretrain(dict(
        type='ImageClassifier', head=dict(type='LinearClsHead', num_classes=5, in_channels=48),
        backbone=dict(type='VisionTransformer', arch=MM_ARCH, img_size=64, patch_size=16, out_type='avg_featmap',
                      final_norm=False, layer_scale_init_value=.1)))
    ours = there_and_back(theirs.state_dict(), 'mmpretrain')
    model = load(classifier('avg_featmap', init_values=.1), ours)
    torch.testing.assert_close(model.head(model.extract_feat(imgs)), theirs.head(theirs.extract_feat(imgs)),
                               rtol=0, atol=1e-5)


def segmenter(backbone):
    """mmseg's UPerNet, tiny, with ``backbone``."""
    norm = dict(type='BN')
    head = dict(in_channels=[48] * 4, in_index=[0, 1, 2, 3], channels=16, num_classes=4, norm_cfg=norm,
                align_corners=False, loss_decode=dict(type='CrossEntropyLoss'))
    return dict(
        type='mmseg.EncoderDecoder', backbone=backbone,
        neck=dict(type='Feature2Pyramid', embed_dim=48, rescales=[4, 2, 1, .5], norm_cfg=norm),
        decode_head=dict(type='UPerHead', pool_scales=(1, 2), **head),
        auxiliary_head=dict(head, type='FCNHead', in_channels=48, in_index=2, num_convs=1),
        train_cfg=dict(), test_cfg=dict(mode='whole'))


def test_mmseg_segmenter(imgs):
    init_default_scope('mmseg')
    from mmseg.registry import MODELS as theirs_of
    theirs = randomise(theirs_of.build(segmenter(dict(
        type='mmseg.MAE', img_size=64, patch_size=16, embed_dims=48, num_layers=4, num_heads=3, mlp_ratio=4,
        init_values=1., norm_cfg=dict(type='LN', eps=1e-6), out_indices=[0, 1, 2, 3]))))
    ours = there_and_back(theirs.state_dict(), 'mmseg')
    model = load(theirs_of.build(segmenter(dict(
        type='mae_plugin.PlainViT', out_type='featmap', out_indices=[0, 1, 2, 3], init_values=1.,
        rel_pos=dict(type='mae_plugin.RelPosBias'), **SIZES | dict(depth=4)))), ours)
    metas = [dict(ori_shape=(64, 64), img_shape=(64, 64), pad_shape=(64, 64))] * 2
    torch.testing.assert_close(
        model.encode_decode(imgs, metas), theirs.encode_decode(imgs, metas), rtol=1e-5, atol=1e-5)


def test_files_of_the_encoder_alone():
    """OpenMMLab's and transformers' have no prefix then; the way back gives it."""
    whole = build_mmpretrain(dict(
        type='ImageClassifier', head=dict(type='LinearClsHead', num_classes=5, in_channels=48),
        backbone=dict(type='VisionTransformer', arch=MM_ARCH, img_size=64, patch_size=16)))
    backbone = whole.backbone.state_dict()
    assert recognise(backbone) == 'mmpretrain'
    ours, unknown = to_plugin(backbone, 'mmpretrain')
    assert not unknown
    back, _ = from_plugin(ours, 'mmpretrain')
    assert back.keys() == {f'backbone.{name}' for name in backbone}


def test_what_has_no_place_is_named():
    state = PlainViT(**SIZES, rel_pos=dict(type='RelPosBias')).state_dict()
    state = {f'backbone.{name}': value for name, value in state.items()} | {'neck.mask_token': torch.zeros(1)}
    _, homeless = from_plugin(state, 'timm')
    assert homeless == [*(f'backbone.blocks.{i}.attn.rel_pos.table' for i in range(3)), 'neck.mask_token']
    theirs = timm.models.VisionTransformer(**SIZES, num_classes=0, reg_tokens=2).state_dict()
    assert to_plugin(theirs | {'dist_token': torch.zeros(1)}, 'timm')[1] == ['dist_token']
    for name in ('authors', 'huggingface', 'mmpretrain'):
        assert from_plugin(to_plugin(theirs, 'timm')[0], name)[1] == ['backbone.reg_token']


def test_a_piece_that_is_missing_is_not_made_up():
    ours = {f'backbone.{name}': value for name, value in PlainViT(**SIZES).state_dict().items()}
    theirs, _ = from_plugin(ours, 'huggingface')
    del theirs['vit.encoder.layer.1.attention.attention.key.bias']
    back, unknown = to_plugin(theirs, 'huggingface')
    assert ours.keys() - back.keys() == {'backbone.blocks.1.attn.qkv.bias'}
    assert unknown == [f'vit.encoder.layer.1.attention.attention.{part}.bias' for part in ('query', 'value')]


def test_a_tensor_under_two_names_is_not_dropped():
    ours = {f'backbone.{name}': value for name, value in PlainViT(**SIZES).state_dict().items()}
    theirs, _ = from_plugin(ours | {'head.fc.weight': torch.zeros(5, 48)}, 'mmpretrain')
    twice = theirs | {'head.layers.head.weight': torch.ones(5, 48)}
    back, unknown = to_plugin(twice, 'mmpretrain')
    assert unknown == ['head.layers.head.weight'] and not back['head.fc.weight'].any()


@pytest.mark.parametrize('name', FORMATS)
def test_no_two_rules_give_the_same_name(name):
    """Each of our names has one way out, and it is the way back in."""
    model = MODELS.build(tiny_mae_cfg())
    ours, homeless = from_plugin(model.state_dict(), name)
    back, unknown = to_plugin(ours, name)
    assert not unknown
    assert back.keys() == model.state_dict().keys() - set(homeless)
    assert all(torch.equal(back[key], model.state_dict()[key]) for key in back)
