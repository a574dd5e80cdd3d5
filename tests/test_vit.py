import math

import pytest
import timm
import torch

from mae_plugin.models import PatchMask, PlainViT


def tiny(**changes):
    torch.manual_seed(0)
    model = PlainViT(**(dict(img_size=64, patch_size=16, embed_dim=48, depth=3, num_heads=3) | changes))
    model.init_weights()
    return model.eval()


# Written by hand: a rename here loses everybody's weights.
TOP = ['cls_token', 'pos_embed', 'patch_embed.proj.weight', 'patch_embed.proj.bias', 'norm.weight', 'norm.bias']
BLOCK = ['norm1.weight', 'norm1.bias', 'attn.qkv.weight', 'attn.qkv.bias', 'attn.proj.weight', 'attn.proj.bias',
         'norm2.weight', 'norm2.bias', 'mlp.fc1.weight', 'mlp.fc1.bias', 'mlp.fc2.weight', 'mlp.fc2.bias']


def test_names_are_the_authors():
    names = set(PlainViT().state_dict())
    assert names == set(TOP) | {f'blocks.{i}.{name}' for i in range(12) for name in BLOCK}
    assert len(names) == 150


@pytest.mark.parametrize('out_type, pool', [('cls_token', 'token'), ('avg_featmap', 'avg')])
def test_equals_timm(out_type, pool):
    """timm loads our state dict strictly, and computes the same features."""
    ours = tiny(out_type=out_type)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=.1)
    theirs = timm.models.VisionTransformer(img_size=64, patch_size=16, embed_dim=48, depth=3, num_heads=3,
                                           num_classes=0, global_pool=pool).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    imgs = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(imgs)[0], theirs(imgs), rtol=1e-4, atol=1e-5)


def test_masked_equals_dropping_tokens_of_a_full_embedding():
    model = tiny().double()
    imgs = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    mask = PatchMask.from_scores(torch.rand(2, 16), 5, (4, 4))
    x = model.patch_embed.proj(imgs).flatten(2).transpose(1, 2) + model.pos_embed[:, 1:]
    x = torch.stack([x[b, mask.ids_keep[b]] for b in range(2)])
    x = torch.cat([(model.cls_token + model.pos_embed[:, :1]).expand(2, -1, -1), x], dim=1)
    for block in model.blocks:
        x = block(x)
    torch.testing.assert_close(model(imgs, mask)[0], model.norm(x))


def test_hidden_pixels_have_no_influence():
    model, imgs = tiny(), torch.randn(1, 3, 64, 64)
    mask = PatchMask.from_scores(torch.arange(16.)[None], 8, (4, 4))  # the upper half is kept
    changed = imgs.clone()
    changed[:, :, 32:] = 1e3
    assert torch.equal(model(imgs, mask)[0], model(changed, mask)[0])
    changed[:, :, 31] += 1
    assert not torch.equal(model(imgs, mask)[0], model(changed, mask)[0])


def test_raw_holds_what_the_other_outputs_are_made_of():
    imgs = torch.randn(2, 3, 64, 64)
    raw = tiny()(imgs)[0]
    assert torch.equal(tiny(out_type='cls_token')(imgs)[0], raw[:, 0])
    pooled = tiny(out_type='featmap')(imgs)[0].mean((2, 3))
    model = tiny(out_type='avg_featmap')
    torch.testing.assert_close(model(imgs)[0], model.fc_norm(pooled))


def test_featmap_is_in_image_order_and_without_norm():
    model, imgs = tiny(out_type='featmap', out_indices=(0, -1)), torch.randn(1, 3, 48, 80)
    first, last = model(imgs)
    assert first.shape == last.shape == (1, 48, 3, 5)
    x = model._embed(imgs, (3, 5), None)
    x = model.blocks[0](x, (3, 5))
    assert torch.equal(first[0, :, 2, 3], x[0, 1 + 2 * 5 + 3])


def test_blocks_that_never_run_wait_for_no_gradient():
    model = tiny(out_type='featmap', out_indices=(0, 1))
    sum(feature.sum() for feature in model(torch.randn(1, 3, 64, 64))).backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    assert not any(parameter.requires_grad for parameter in model.blocks[2].parameters())


def test_windows_as_large_as_the_image_change_nothing():
    imgs = torch.randn(2, 3, 64, 64)
    options = dict(out_type='featmap', with_cls_token=False)
    torch.testing.assert_close(
        tiny(**options)(imgs)[0], tiny(**options, window_size=4, window_block_indexes=[0, 1, 2])(imgs)[0])


def test_windows_do_not_see_each_other():
    model = tiny(out_type='featmap', with_cls_token=False, window_size=2, window_block_indexes=[0, 1, 2])
    imgs = torch.randn(1, 3, 64, 64)
    changed = imgs.clone()
    changed[..., :32, :32] += 1
    before, after = model(imgs)[0], model(changed)[0]
    assert not torch.equal(before[..., :2, :2], after[..., :2, :2])
    assert torch.equal(before[..., 2:, :], after[..., 2:, :]) and torch.equal(before[..., :2, 2:], after[..., :2, 2:])


def test_convolutions_begin_as_the_identity_and_then_join_the_windows():
    options = dict(out_type='featmap', with_cls_token=False, window_size=2, window_block_indexes=[0, 1, 2])
    model = tiny(**options, conv_block_indexes=[1])
    imgs = torch.randn(1, 3, 64, 64)
    plain = tiny(**options)
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if '.residual.' not in name})
    torch.testing.assert_close(model(imgs)[0], plain(imgs)[0])
    torch.nn.init.ones_(model.blocks[1].residual.norm3.weight)
    changed = imgs.clone()
    changed[..., :32, :32] += 1
    difference = (model(imgs)[0] != model(changed)[0]).any(dim=1)[0]
    assert difference[:, 2:].any() and difference[2:].any()


def test_convolution_block_by_hand():
    model = tiny(out_type='featmap', with_cls_token=False, conv_block_indexes=[0])
    block, x = model.blocks[0].residual, torch.randn(1, 48, 4, 4)
    torch.nn.init.normal_(block.norm3.weight)

    def norm(layer, x):
        x = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, unbiased=False) + 1e-6).sqrt()
        return x * layer.weight[:, None, None] + layer.bias[:, None, None]

    y = torch.nn.functional.gelu(norm(block.norm1, block.conv1(x)))
    y = norm(block.norm3, block.conv3(torch.nn.functional.gelu(norm(block.norm2, block.conv2(y)))))
    torch.testing.assert_close(block(x), x + y)


ALL = {name for name, _ in tiny().named_parameters()}
LAST = {name for name in ALL if name.startswith('blocks.2.')}


@pytest.mark.parametrize('options, trained', [
    (dict(), ALL),
    (dict(trainable_blocks=0), set()),
    (dict(trainable_blocks=.5), {f'blocks.2.{name}' for name in BLOCK[6:]} | {'norm.weight', 'norm.bias'}),
    (dict(trainable_blocks=1), LAST | {'norm.weight', 'norm.bias'}),
    (dict(trainable_blocks=3), {name for name in ALL if name.startswith(('blocks.', 'norm.'))}),
    (dict(trainable_blocks=0, out_type='avg_featmap'), {'fc_norm.weight', 'fc_norm.bias'}),
    (dict(trainable_blocks=1, out_type='featmap'), LAST),
    (dict(trainable_blocks=1, out_type='featmap', out_indices=[1]),
     {name.replace('.2.', '.1.') for name in LAST})])
def test_partial_fine_tuning_trains_what_the_paper_says(options, trained):
    model = tiny(**options)
    model.train()(torch.randn(2, 3, 64, 64))[0].square().sum().backward() if trained else None
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == trained


def test_what_a_task_adds_is_trained_in_frozen_blocks_too():
    model = tiny(out_type='featmap', trainable_blocks=0, init_values=1., rel_pos=dict(type='RelPosBias'))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    added = ('attn.rel_pos.table', 'ls1.gamma', 'ls2.gamma')
    assert trained == {f'blocks.{i}.{name}' for i in range(3) for name in added}


def test_layer_scale_of_one_changes_nothing():
    imgs = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(tiny()(imgs)[0], tiny(init_values=1.)(imgs)[0])


def test_bfloat16_within_a_float32_model():
    """Close to the plain model and not it; float32 outputs, also within autocast; weights and gradients in float32."""
    imgs = torch.randn(2, 3, 64, 64)
    for options in (dict(out_type='featmap', out_indices=(0, 2)), dict(out_type='avg_featmap'), dict(out_type='raw')):
        plain, model = tiny(**options), tiny(**options, bf16=True)
        outputs = model(imgs)
        with torch.autocast('cpu', torch.bfloat16):
            within = model(imgs)
        for x, y, z in zip(plain(imgs), outputs, within, strict=True):
            assert y.dtype == z.dtype == torch.float32 and torch.equal(y, z)
            assert 0 < (x - y).norm() / x.norm() < 2e-2
        outputs[-1].square().sum().backward()
        assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters()
                   if parameter.requires_grad)


def test_drop_path_only_in_training():
    imgs = torch.randn(4, 3, 64, 64)
    model = tiny(drop_path_rate=.5)
    assert torch.equal(model(imgs)[0], tiny()(imgs)[0])
    assert [getattr(block.drop_path, 'drop_prob', 0.) for block in model.blocks] == pytest.approx([0, .25, .5])


def test_other_channels_and_rectangles():
    model = tiny(img_size=(32, 64), patch_size=(8, 16), in_chans=5)
    assert model.grid == (4, 4)
    assert model(torch.randn(1, 5, 32, 64))[0].shape == (1, 17, 48)


def test_initialisation_follows_the_authors():
    torch.manual_seed(0)
    model = PlainViT(embed_dim=192, depth=1, num_heads=3)
    model.init_weights()
    state = model.state_dict()
    limits = {  # xavier: the bound of the uniform distribution is sqrt(6 / (fan in + fan out))
        'blocks.0.attn.qkv.weight': 192 + 576, 'blocks.0.attn.proj.weight': 192 + 192,
        'blocks.0.mlp.fc1.weight': 192 + 768, 'patch_embed.proj.weight': 192 + 768}
    for name, fans in limits.items():
        assert .98 < state[name].abs().max() / math.sqrt(6 / fans) <= 1, name
    for name in ('attn.qkv', 'attn.proj', 'mlp.fc1', 'mlp.fc2', 'norm1', 'norm2'):
        assert not state[f'blocks.0.{name}.bias'].any()
    assert state['patch_embed.proj.bias'].any()
    assert .015 < state['cls_token'].std() < .025
    assert (state['blocks.0.norm1.weight'] == 1).all()


@pytest.mark.parametrize('options, message', [
    (dict(img_size=65), '65x65 cannot be cut into patches of 16x16'),
    (dict(num_heads=5), 'width of 48 cannot be split into 5 heads'),
    (dict(out_type='feature'), "'feature' is not one of"),
    (dict(out_indices=[3]), r'out_indices names the blocks \[3\]'),
    (dict(out_type='cls_token', with_cls_token=False), 'with_cls_token=True'),
    (dict(window_size=2), 'give both or neither'),
    (dict(window_size=2, window_block_indexes=[0]), 'with_cls_token=False'),
    (dict(rel_pos=dict(type='DecomposedRelPos')), 'needs with_cls_token=False'),
    (dict(conv_block_indexes=[0]), 'with_cls_token=False'),
    (dict(trainable_blocks=4), 'trainable_blocks=4 is neither a whole number from 0 to 3, .* nor 0.5'),
    (dict(trainable_blocks=1.5), 'trainable_blocks=1.5 is neither'),
])
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)


def test_wrong_images_are_named():
    with pytest.raises(ValueError, match='70x64 cannot be cut'):
        tiny()(torch.zeros(1, 3, 70, 64))
    with pytest.raises(ValueError, match='1 channels, backbone.in_chans is 3'):
        tiny()(torch.zeros(1, 1, 64, 64))
    with pytest.raises(ValueError, match='no masked form'):
        tiny(out_type='featmap')(torch.zeros(1, 3, 64, 64), PatchMask.from_scores(torch.rand(1, 16), 4, (4, 4)))


def test_raw_tokens_of_several_blocks_end_with_the_normalised_ones():
    torch.manual_seed(0)
    sizes = dict(img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=2)
    vit = PlainViT(**sizes, out_indices=(0, 1, -1))
    vit.init_weights()
    imgs = torch.randn(2, 3, 32, 32)
    mask = PatchMask.from_scores(torch.rand(2, 16), 5, (4, 4))
    first, second, last = vit(imgs, mask)
    torch.testing.assert_close(second, vit.blocks[1](first))
    torch.testing.assert_close(last, vit.norm(vit.blocks[2](second)))
    with pytest.raises(ValueError, match=r'out_indices=\[2, 0\].*last block, 2'):
        PlainViT(**sizes, out_indices=(-1, 0))
