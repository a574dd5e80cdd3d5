"""Plain vision transformers of timm as backbones: equal to timm, to PlainViT, and through files in both directions."""

import pytest
import timm
import torch
from conftest import tiny_mae_cfg
from mmengine import Config
from tiny.tools import ROOT, load_tool

from mae_plugin.engine.checkpoint_hooks import CheckpointCardHook
from mae_plugin.models import PatchMask, PlainViT, TimmViT
from mae_plugin.registry import MODELS
from mae_plugin.weights.card import disagreements, make_card
from mae_plugin.weights.convert import convert
from mae_plugin.weights.files import CARD_KEY
from mae_plugin.weights.inspection import inspect_checkpoint

SIZES = dict(img_size=64, patch_size=16, embed_dim=48, depth=3, num_heads=3)
PLAIN = 'vit_tiny_patch16_224'
REGISTERS = 'vit_base_patch16_reg4_gap_256'  # no class token, no positions for the registers
SWIGLU = 'vit_giant_patch14_reg4_dinov2'  # class token, registers, layer scale
NAMES = [
    PLAIN, REGISTERS, SWIGLU,
    'vit_small_patch16_18x2_224',  # branches in parallel
    'vit_base_patch16_clip_quickgelu_224',  # a norm before the blocks, patches without bias
    'aimv2_large_patch14_224',  # a norm of the patches, no biases, no class token
    'test_vit2', 'test_vit4',  # blocks that norm after the branch; scaled norms
]


def tiny(name=PLAIN, **changes):
    """A tiny model whose parameters are all random, so that each counts."""
    torch.manual_seed(0)
    model = TimmViT(name, **SIZES | changes)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=.1)
    return model.eval()


def theirs(model, name, **changes):
    """timm's own model, which loads our state dict strictly."""
    out = timm.create_model(name, num_classes=0, **dict(global_pool='', fc_norm=False) | SIZES | changes).eval()
    out.load_state_dict(model.state_dict(), strict=True)
    return out


@pytest.fixture
def imgs():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def random_mask(num_keep, batch=2, L=16):
    return PatchMask.from_scores(torch.rand(batch, L, generator=torch.Generator().manual_seed(2)), num_keep, (4, 4))


@pytest.mark.parametrize('name', NAMES)
def test_tokens_are_timms(name, imgs):
    model, imgs = tiny(name).double(), imgs.double()
    reference = theirs(model, name).double()
    torch.testing.assert_close(model(imgs)[0], reference.forward_features(imgs), rtol=1e-10, atol=1e-12)
    taps = tiny(name, out_type='featmap', out_indices=(0, 2)).double()
    taps.load_state_dict(model.state_dict(), strict=False)
    maps = reference.forward_intermediates(imgs, [0, 2], intermediates_only=True)
    torch.testing.assert_close(list(taps(imgs)), maps, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize('name', [PLAIN, REGISTERS])
def test_the_mean_of_the_patches_is_timms(name, imgs):
    model = tiny(name, out_type='avg_featmap')
    reference = theirs(model, name, global_pool='avg', fc_norm=True)
    torch.testing.assert_close(model(imgs)[0], reference(imgs), rtol=1e-5, atol=2e-6)


def test_the_class_token_is_timms(imgs):
    model = tiny(out_type='cls_token')
    torch.testing.assert_close(model(imgs)[0], theirs(model, PLAIN, global_pool='token')(imgs), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize('name', [PLAIN, REGISTERS])
def test_positions_are_resampled_as_by_timm(name):
    model = tiny(name)
    reference = theirs(model, name, dynamic_img_size=True)
    for size in ((32, 96), (128, 64)):
        imgs = torch.randn(1, 3, *size)
        torch.testing.assert_close(model(imgs)[0], reference.forward_features(imgs), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize('name', NAMES)
def test_a_mask_that_keeps_all_changes_the_order_alone(name, imgs):
    model, mask = tiny(name), random_mask(16)
    T = model.num_prefix_tokens
    masked, whole = model(imgs, mask)[0], model(imgs)[0]
    order = mask.ids_shuffle[..., None].expand(-1, -1, 48)
    torch.testing.assert_close(masked[:, T:], whole[:, T:].gather(1, order), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(masked[:, :T], whole[:, :T], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', NAMES)
def test_hidden_pixels_have_no_influence(name, imgs):
    model = tiny(name)
    mask = PatchMask.from_scores(torch.arange(16.).expand(2, 16), 8, (4, 4))  # the upper half is kept
    changed = imgs.clone()
    changed[:, :, 32:] = 1e3
    tokens = model(imgs, mask)[0]
    assert tokens.shape == (2, model.num_prefix_tokens + 8, 48)
    assert torch.equal(tokens, model(changed, mask)[0])
    changed[:, :, 31] += 1
    assert not torch.equal(tokens, model(changed, mask)[0])


def test_equals_plain_vit(imgs):
    """Masked and not, with the same names, in both directions."""
    ours, plain = tiny(), PlainViT(**SIZES).eval()
    plain.load_state_dict(ours.state_dict(), strict=True)
    mask = random_mask(5)
    for given in (None, mask):
        torch.testing.assert_close(ours(imgs, given)[0], plain(imgs, given)[0], rtol=1e-5, atol=2e-6)
    ours.load_state_dict(plain.state_dict(), strict=True)


@pytest.mark.parametrize('name, prefix', [(PLAIN, 1), (SWIGLU, 5), (REGISTERS, 4), ('vit_medium_patch16_gap_240', 0)])
@pytest.mark.parametrize('options', [dict(), dict(drop_path_rate=.3, with_cp=True)])
def test_every_trained_parameter_has_a_gradient(name, prefix, options, imgs):
    """With any number of prefix tokens, MAE's decoder after them."""
    cfg = tiny_mae_cfg()
    cfg['backbone'] = dict(type='mae_plugin.TimmViT', name=name, freeze_pos_embed=True, **SIZES, **options)
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    assert model.backbone.num_prefix_tokens == model.neck.num_prefix_tokens == prefix
    model.train().loss(imgs)['loss'].backward()
    waiting = {key for key, value in model.named_parameters() if value.requires_grad and value.grad is None}
    assert not waiting
    assert [key for key, value in model.named_parameters() if not value.requires_grad] == [
        'backbone.pos_embed', 'neck.decoder_pos_embed']


def test_blocks_that_never_run_wait_for_no_gradient(imgs):
    model = tiny(out_type='featmap', out_indices=(0, 1))
    sum(feature.sum() for feature in model(imgs)).backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    assert not any(parameter.requires_grad for parameter in model.blocks[2].parameters())


@pytest.mark.parametrize('options', [dict(), dict(drop_path_rate=.5), dict(attn_drop_rate=.5)])
def test_checkpointing_changes_nothing(options, imgs):
    grads = []
    for with_cp in (False, True):
        model = tiny(with_cp=with_cp, **options).train()
        torch.manual_seed(3)
        model(imgs, random_mask(5))[0].square().sum().backward()
        grads.append([parameter.grad for parameter in model.parameters()])
    for plain, checkpointed in zip(*grads, strict=True):
        assert torch.equal(plain, checkpointed)


def test_from_scratch_it_starts_as_mae():
    def build(**changes):
        torch.manual_seed(0)
        model = TimmViT(SWIGLU, **SIZES | changes)
        model.init_weights()
        return model
    plain = PlainViT(**SIZES)
    model = build(freeze_pos_embed=True)
    assert torch.equal(model.pos_embed, plain.pos_embed[:, 1:])  # this name has positions for patches alone
    assert torch.equal(tiny_start(PLAIN, freeze_pos_embed=True).pos_embed, plain.pos_embed)
    learned = build().pos_embed
    assert learned.requires_grad and abs(learned.std() - .02) < .003
    assert abs(model.reg_token.std() - .02) < .01 and abs(model.cls_token.std() - .02) < .01
    for weight in (model.patch_embed.proj.weight.flatten(1), model.blocks[1].attn.qkv.weight):
        bound = (6 / sum(weight.shape)) ** .5  # xavier-uniform
        assert bound * .95 < weight.abs().max() <= bound
    assert not model.blocks[0].attn.qkv.bias.any() and (model.blocks[0].ls1.gamma == 1e-5).all()


def tiny_start(name, **changes):
    model = TimmViT(name, **SIZES | changes)
    model.init_weights()
    return model


def test_layer_depth():
    model = tiny(SWIGLU)
    depths = {name: model.get_layer_depth(f'backbone.{name}', 'backbone.') for name in model.state_dict()}
    assert {depths[name] for name in ('cls_token', 'reg_token', 'pos_embed', 'patch_embed.proj.bias')} == {(0, 5)}
    assert depths['blocks.0.ls1.gamma'] == (1, 5) and depths['blocks.2.mlp.fc1.weight'] == (3, 5)
    assert depths['norm.weight'] == model.get_layer_depth('head.fc.weight', 'backbone.') == (4, 5)
    assert tiny(NAMES[4]).get_layer_depth('norm_pre.weight') == (0, 5)


def test_partial_fine_tuning():
    assert not any(parameter.requires_grad for parameter in tiny(SWIGLU, trainable_blocks=0).parameters())
    model = tiny(SWIGLU, trainable_blocks=1, out_type='avg_featmap')
    trained = {name.rpartition('.')[0].partition('.')[0] + name.partition('blocks.')[2][:1]
               for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {'blocks2', 'fc_norm'}


# ---------------------------------------------------------------------------------------------------- files


def mae_cfg(name, **changes):
    cfg = tiny_mae_cfg()
    cfg['backbone'] = dict(type='mae_plugin.TimmViT', name=name, freeze_pos_embed=True, **SIZES) | changes
    return cfg


def save_pretraining(name, path):
    """A checkpoint of a masked autoencoder with random weights, as the runner and our hook write it."""
    torch.manual_seed(0)
    cfg = Config(dict(model=mae_cfg(name)))
    model = MODELS.build(cfg.model)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=.1)
    torch.save(dict(state_dict=model.state_dict(), meta={CARD_KEY: make_card(model, cfg)}), path)
    return model.eval()


@pytest.fixture(scope='module', params=[PLAIN, SWIGLU, REGISTERS, 'aimv2_large_patch14_224'])
def pretrained(request, tmp_path_factory):
    """Name, file and model."""
    file = tmp_path_factory.mktemp('timm') / 'iter_5.pth'
    return request.param, file, save_pretraining(request.param, file)


def started(name, checkpoint, **changes):
    init_cfg = dict(type='mae_plugin.MAEPretrained', checkpoint=str(checkpoint))
    model = TimmViT(name, **SIZES | changes, init_cfg=init_cfg)
    model.init_weights()
    return model.eval()


def test_tasks_start_from_pretraining(pretrained, imgs):
    name, file, source = pretrained
    assert torch.equal(started(name, file)(imgs)[0], source.backbone(imgs)[0])
    model = started(name, file, out_type='featmap')
    last, = model(imgs)
    tokens = last.flatten(2).transpose(1, 2)
    torch.testing.assert_close(source.backbone.norm(tokens), source.backbone(imgs)[0][:, model.num_prefix_tokens:])
    pooled = started(name, file, out_type='avg_featmap')  # with a new norm
    torch.testing.assert_close(pooled(imgs)[0], pooled.fc_norm(tokens.mean(dim=1)), rtol=1e-4, atol=1e-5)
    whole = MODELS.build(dict(mae_cfg(name), init_cfg=dict(type='mae_plugin.MAEPretrained', checkpoint=str(file))))
    whole.init_weights()
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in source.state_dict().items())


def test_a_classifier_starts_from_pretraining(pretrained):
    """What was loaded is not overwritten by an init_weights of timm's or of a part's."""
    pytest.importorskip('mmpretrain')
    name, file, source = pretrained
    model = MODELS.build(dict(
        type='mmpretrain.ImageClassifier', head=dict(type='LinearClsHead', num_classes=5, in_channels=48),
        backbone=dict(type='mae_plugin.TimmViT', name=name, **SIZES, out_type='avg_featmap',
                      init_cfg=dict(type='mae_plugin.MAEPretrained', checkpoint=str(file)))))
    model.init_weights()
    state = model.backbone.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in source.backbone.state_dict().items() if key in state)
    assert source.backbone.state_dict().keys() - state.keys() <= {'norm.weight', 'norm.bias'}


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_export_to_timm(pretrained, imgs, tmp_path, suffix):
    name, file, source = pretrained
    out = tmp_path / f'timm.{suffix}'
    load_tool('convert_checkpoint').main([str(file), str(out), '--to', 'timm', '--encoder-only'])
    exported = timm.create_model(name, **SIZES, num_classes=0, fc_norm=False, global_pool='',
                                 checkpoint_path=str(out)).eval()
    torch.testing.assert_close(exported.forward_features(imgs), source.backbone(imgs)[0], rtol=1e-5, atol=2e-6)
    back = started(name, out)  # the way back, also of a file without a card
    assert all(torch.equal(value, back.state_dict()[key]) for key, value in source.backbone.state_dict().items())


def test_between_plain_vit_and_timm(tmp_path, imgs):
    save_pretraining(PLAIN, tmp_path / 'timm.pth')
    ours = started(PLAIN, tmp_path / 'timm.pth')
    init_cfg = dict(type='mae_plugin.MAEPretrained', checkpoint=str(tmp_path / 'timm.pth'))
    plain = PlainViT(**SIZES, init_cfg=init_cfg).eval()
    plain.init_weights()
    torch.testing.assert_close(plain(imgs)[0], ours(imgs)[0], rtol=1e-5, atol=2e-6)
    torch.save({f'backbone.{key}': value for key, value in plain.state_dict().items()}, tmp_path / 'plain.pth')
    assert torch.equal(started(PLAIN, tmp_path / 'plain.pth')(imgs)[0], ours(imgs)[0])


@pytest.mark.parametrize('name, message', [
    (SWIGLU, 'it holds reg_token, blocks.0.ls1|it holds reg_token'),
    ('aimv2_large_patch14_224', 'it lacks cls_token, .* and it holds .*patch_embed.norm.weight'),
    ('vit_base_patch16_clip_quickgelu_224', 'it lacks patch_embed.proj.bias and it holds norm_pre.weight'),
])
def test_plain_vit_has_no_place_for_the_others(name, message, tmp_path):
    save_pretraining(name, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=message) as raised:
        PlainViT(**SIZES, init_cfg=dict(type='mae_plugin.MAEPretrained',
                                        checkpoint=str(tmp_path / 'a.pth'))).init_weights()
    assert str(raised.value).endswith(f"which was that of mae_plugin.TimmViT(name='{name}')")
    with pytest.raises(ValueError, match='have no place in the format authors'):
        convert(str(tmp_path / 'a.pth'), tmp_path / 'b.pth', 'authors', encoder_only=True)


def test_layer_scale_is_no_addition_of_a_task(tmp_path):
    """In PlainViT a task adds it; here it belongs to the model, and a start without it would be another model's."""
    save_pretraining(PLAIN, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='does not fit TimmViT: it lacks blocks.0.ls1.gamma'):
        started('deit3_small_patch16_224', tmp_path / 'a.pth', no_embed_class=False)


def test_half_a_file_is_refused(tmp_path):
    save_pretraining(SWIGLU, tmp_path / 'a.pth')
    content = torch.load(tmp_path / 'a.pth', weights_only=True)
    del content['state_dict']['backbone.blocks.1.mlp.fc2.bias']
    torch.save(content, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='lacks part of its encoder: backbone.blocks.1.mlp.fc2.bias'):
        started(SWIGLU, tmp_path / 'a.pth')


@pytest.mark.parametrize('name', [PLAIN, SWIGLU])
def test_another_size_of_image(name, tmp_path):
    source = save_pretraining(name, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'a grid of 4x4 patches, the model has img_size=\(96, 96\) with a grid of'):
        started(name, tmp_path / 'a.pth', img_size=96)
    model = TimmViT(name, **SIZES | dict(img_size=96), init_cfg=dict(
        type='mae_plugin.MAEPretrained', checkpoint=str(tmp_path / 'a.pth'), resize=True))
    model.init_weights()
    slots = model.pos_slots
    assert torch.equal(model.pos_embed[:, :slots], source.backbone.pos_embed[:, :slots])
    grid = source.backbone.pos_embed[:, slots:].transpose(1, 2).unflatten(2, (4, 4))
    expected = torch.nn.functional.interpolate(grid, size=(6, 6), mode='bicubic', align_corners=False)
    torch.testing.assert_close(model.pos_embed[:, slots:], expected.flatten(2).transpose(1, 2))


def test_pretrained_is_timms_file(monkeypatch, imgs):
    source = tiny(SWIGLU)
    reference = theirs(source, SWIGLU)
    reference.pretrained_cfg = dict(mean=(.5, .5, .5), std=(.2, .2, .2))
    create = timm.create_model
    monkeypatch.setattr(timm, 'create_model', lambda name, pretrained=False, **args: (
        reference if pretrained and name == SWIGLU else create(name, **args)))
    model = TimmViT(SWIGLU, **SIZES, pretrained=True).eval()
    model.init_weights()
    assert torch.equal(model(imgs)[0], source(imgs)[0])
    with pytest.raises(ValueError, match='pretrained=True starts from timm://.*, and init_cfg from another file'):
        TimmViT(SWIGLU, **SIZES, pretrained=True, init_cfg=dict(type='x'))


def test_the_card(tmp_path):
    def card(model_cfg):
        cfg = Config(dict(model=model_cfg))
        return make_card(MODELS.build(cfg.model), cfg)
    found = card(mae_cfg(SWIGLU))
    expected = dict(type='TimmViT', name=SWIGLU, patch_size=[16, 16], grid=[4, 4], embed_dim=48, depth=3, num_heads=3,
                    activation='SiLU', in_chans=3)
    assert found['backbone'].items() >= expected.items()
    assert disagreements(found, card(mae_cfg(SWIGLU, img_size=96))) == {}
    assert disagreements(card(mae_cfg(PLAIN)), card(tiny_mae_cfg())) == {}
    assert list(disagreements(card(mae_cfg(PLAIN)), card(tiny_mae_cfg(num_heads=6)))) == ['num_heads']
    quick = card(mae_cfg('vit_base_patch16_clip_quickgelu_224'))
    assert list(disagreements(quick, card(mae_cfg('vit_base_patch16_clip_224')))) == ['activation']
    with pytest.raises(ValueError, match='allow='):
        CheckpointCardHook(allow=['activations'])


@pytest.mark.parametrize('name, encoder, positions', [
    (SWIGLU, '4 registers', 'grid of 4x4'), (PLAIN, 'MLP 192', 'grid of 4x4'),
    (REGISTERS, '4 registers', 'grid of 4x4'), ('aimv2_large_patch14_224', 'SwiGLU', 'grid of 4x4')])
def test_inspection(name, encoder, positions, tmp_path):
    save_pretraining(name, tmp_path / 'a.pth')
    facts = inspect_checkpoint(tmp_path / 'a.pth')
    assert encoder in facts['encoder'] and '3 heads' in facts['encoder'] and facts['positions'].startswith(positions)
    assert facts['holds'] == 'masked autoencoder: encoder and decoder'


# ---------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize('name, changes, message', [
    ('vit_base_patch61_224', {}, "'vit_base_patch61_224' is no model of timm .*; did you mean vit_base_patch16_224 or"),
    ('swin_tiny_patch4_window7_224', {}, "'swin_.*': it is of the class SwinTransformer; mae_plugin.TimmViT"),
    ('vit_relpos_base_patch16_224', {}, 'it is of the class VisionTransformerRelPos; mae_plugin.TimmViT takes'),
    ('deit_tiny_distilled_patch16_224', {}, 'it is of the class VisionTransformerDistilled; mae_plugin.TimmViT'),
    ('vit_small_r26_s32_224', {}, 'its HybridEmbed sees more than a patch, so that hidden pixels would leak'),
    ('test_vit', dict(pos_embed='none'), 'it has no position embedding; mae_plugin.TimmViT takes'),
    (PLAIN, dict(embed_dims=3), 'timm does not build it with .*embed_dims .*unexpected keyword argument'),
    (PLAIN, dict(num_classes=3), 'backbone.num_classes is not for a config to set'),
    (PLAIN, dict(patch_size=14), 'an image of 64x64 cannot be cut into patches of 14x14'),
    (PLAIN, dict(out_type='tokens'), "out_type='tokens' is not one of"),
    (PLAIN, dict(out_indices=[3]), 'depth=3, so they run from 0 to 2'),
    (REGISTERS, dict(out_type='cls_token'), "needs a class token, which vit_base_.* has not: take 'avg_featmap'"),
])
def test_mistakes(name, changes, message):
    with pytest.raises(ValueError, match=message):
        TimmViT(name, **SIZES | changes)


def test_wrong_images_are_named(imgs):
    with pytest.raises(ValueError, match='1 channels, backbone.in_chans is 3'):
        tiny()(imgs[:, :1])
    with pytest.raises(ValueError, match="out_type='featmap' has no masked form"):
        tiny(out_type='featmap')(imgs, random_mask(4))


def test_the_configs_agree():
    """The classifier is built as its pretraining is, at real size on no memory."""
    with torch.device('meta'):
        backbones = [Config.fromfile(ROOT / 'configs' / path).model.backbone for path in (
            'pretrain/mae_timm-vit-base-reg4_images.py', 'classification/timm-vit-base-reg4_custom.py')]
        pretraining, task = (TimmViT(**{key: value for key, value in cfg.items() if key not in ('type', 'init_cfg')})
                             for cfg in backbones)
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in (pretraining, task)]
    assert {key for key in shapes[0].keys() ^ shapes[1].keys()} == {
        'norm.weight', 'norm.bias', 'fc_norm.weight', 'fc_norm.bias'}
    assert all(shapes[1][key] == shape for key, shape in shapes[0].items() if key in shapes[1])
    assert pretraining.grid == (14, 14) and not pretraining.pos_embed.requires_grad and task.pos_embed.requires_grad
