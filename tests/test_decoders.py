"""Decoders beside MAE's, mask tokens in the encoder: the obvious computation, properties, every kind of mask."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_mae_cfg
from mmengine import Config
from test_fast_step import WARM_UP, StandIn, batch, blocks, dynamo, gradients, graphed, on_gpu, said, trained, wrapped  # noqa: F401
from tiny.tools import ROOT
from torch import nn

from mae_plugin.engine import CUDAGraphRecorder, FastStepHook, fast_step
from mae_plugin.models import CrossMAEDecoder, MAEDecoder, MaskTokenViT, PatchMask, PlainViT
from mae_plugin.models.cross_decoder import CrossBlock
from mae_plugin.registry import MODELS
from mae_plugin.weights.card import make_card
from mae_plugin.weights.checkpoint import read_weights
from mae_plugin.weights.convert import convert
from mae_plugin.weights.formats import FORMATS
from mae_plugin.weights.inspection import inspect_checkpoint

L, GRID = 8, (4, 2)
SIZES = dict(img_size=(64, 32), patch_size=16, embed_dim=24)


def randomised(module):
    """Norms, biases and tokens too, so that nothing is lost in a one or a zero."""
    for parameter in module.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=.3)
    return module


def decoder_of(cls, **kwargs):
    torch.manual_seed(0)
    sizes = dict(out_dim=10, decoder_embed_dim=16, decoder_depth=3, decoder_num_heads=2)
    return randomised(cls(**SIZES, **sizes, **kwargs).double())


def mask_of(K=3, P=None, B=2):
    return PatchMask.from_scores(torch.rand(B, L, generator=torch.Generator().manual_seed(1)), K, GRID, P)


def latents_of(n=1, tokens=1 + 3):
    return tuple(torch.randn(2, tokens, 24, dtype=torch.float64) for _ in range(n))


def tiny_vit(cls, **kwargs):
    torch.manual_seed(0)
    model = cls(img_size=(64, 32), patch_size=16, embed_dim=24, depth=2, num_heads=2, **kwargs)
    model.init_weights()
    return model


# CrossMAE


def attention(attn, queries, context):
    """softmax(q k' / sqrt(d)) v of each head by matrix products, then the projection."""
    dim = queries.size(-1)
    w, b = attn.qkv.weight, attn.qkv.bias
    q, k, v = (F.linear(x, w[i * dim:(i + 1) * dim], b[i * dim:(i + 1) * dim])
               for i, x in enumerate((queries, context, context)))
    size = dim // attn.num_heads
    heads = [((q[..., h:h + size] @ k[..., h:h + size].mT) / math.sqrt(size)).softmax(-1) @ v[..., h:h + size]
             for h in range(0, dim, size)]
    return attn.proj(torch.cat(heads, dim=-1))


def decode_as_the_paper_says(decoder, latents, mask):
    positions = decoder.decoder_pos_embed[0, 1:]
    x = torch.stack([decoder.mask_token[0, 0] + positions[ids] for ids in mask.ids_pred])
    for j, block in enumerate(decoder.decoder_blocks):
        features = [decoder.decoder_embed(latent) for latent in latents]
        if len(features) > 1:
            features = [decoder.decoder_feature_weights[j, i] * feature for i, feature in enumerate(features)]
        x = x + attention(block.attn, block.norm1(x), block.norm_context(sum(features)))
        x = x + block.mlp(block.norm2(x))
    return decoder.decoder_pred(decoder.decoder_norm(x))


@pytest.mark.parametrize('num_features', [1, 3])
def test_cross_decoder_is_the_obvious_one(num_features):
    """Values and gradients, of the weights of the features too."""
    decoder = decoder_of(CrossMAEDecoder, num_taps=num_features)
    latents, mask = latents_of(num_features), mask_of(P=4)
    results = []
    for decode in (decode_as_the_paper_says, lambda decoder, *args: decoder(*args)):
        decoder.zero_grad()
        pred = decode(decoder, latents, mask)
        pred.sin().sum().backward()
        results.append([pred] + [p.grad for p in decoder.parameters() if p.requires_grad])
    for expected, found in zip(*results, strict=True):
        assert expected.abs().max() > 0
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_cross_attention_is_that_of_torch():
    torch.manual_seed(0)
    block = randomised(CrossBlock(16, 4).double())
    theirs = nn.MultiheadAttention(16, 4, batch_first=True, dtype=torch.float64)
    theirs.in_proj_weight, theirs.in_proj_bias = block.attn.qkv.weight, block.attn.qkv.bias
    theirs.out_proj = block.attn.proj
    x, context = torch.randn(2, 5, 16).double(), torch.randn(2, 7, 16).double()
    expected, _ = theirs(x, context, context)
    torch.testing.assert_close(block.attn(x, context=context), expected)
    assert block(x, context).shape == x.shape


def test_gradients_agree_with_finite_differences():
    """Of the block by queries and context, and of the decoder by what it learns and by two features."""
    torch.manual_seed(0)
    block = randomised(CrossBlock(4, 2).double())
    x, context = (torch.randn(1, n, 4, dtype=torch.float64, requires_grad=True) for n in (2, 3))
    assert torch.autograd.gradcheck(block, (x, context))

    decoder = randomised(CrossMAEDecoder(32, 16, embed_dim=3, out_dim=2, decoder_embed_dim=4, decoder_depth=2,
                                         decoder_num_heads=2, num_taps=2).double())
    mask = PatchMask.from_scores(torch.rand(1, 4), 2, (2, 2), 1)
    learned = {name: p for name, p in decoder.named_parameters() if name in (
        'decoder_feature_weights', 'mask_token', 'decoder_embed.weight', 'decoder_blocks.1.norm_context.weight')}
    assert len(learned) == 4

    def decode(*values):
        parameters = dict(zip(learned, values[2:], strict=True))
        return torch.func.functional_call(decoder, parameters, (values[:2], mask))
    features = [torch.randn(1, 3, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(decode, (*features, *learned.values()))


def test_each_mask_token_is_decoded_alone():
    """The prediction of a patch does not depend on which others are predicted."""
    decoder, latents = decoder_of(CrossMAEDecoder, num_taps=2), latents_of(2)
    full = decoder(latents, mask_of())
    for P in (1, 2, 4):
        torch.testing.assert_close(decoder(latents, mask_of(P=P)), full[:, -P:], rtol=1e-10, atol=1e-12)


def test_features_weigh_by_their_weights():
    """With the weights of one alone it is the decoder of that feature; a feature without weight has no influence."""
    decoder, latents, mask = decoder_of(CrossMAEDecoder, num_taps=2), latents_of(2), mask_of()
    one = decoder_of(CrossMAEDecoder)
    one.load_state_dict({name: value for name, value in decoder.state_dict().items() if 'feature_weights' not in name})
    with torch.no_grad():
        decoder.decoder_feature_weights.copy_(torch.tensor([0., 1.]).expand(3, 2))
    torch.testing.assert_close(decoder(latents, mask), one(latents[1:], mask), rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        decoder.decoder_feature_weights.zero_()[1, 0] = 1
    changed = (latents[0], latents[1] + 1)
    torch.testing.assert_close(decoder(changed, mask), decoder(latents, mask), rtol=0, atol=0)
    assert not torch.allclose(decoder((latents[0].flip(2), latents[1]), mask), decoder(latents, mask))


def test_weights_of_features_begin_at_random_of_their_number():
    torch.manual_seed(0)
    decoder = CrossMAEDecoder(**SIZES, out_dim=10, decoder_embed_dim=4, decoder_depth=100, decoder_num_heads=2,
                              num_taps=64)
    decoder.init_weights()
    weights = decoder.decoder_feature_weights
    assert weights.std().item() == pytest.approx(.125, rel=.05) and abs(weights.mean()) < .02
    assert 0 < decoder.mask_token.abs().max() < .1


def test_another_number_of_features_is_refused():
    decoder = decoder_of(CrossMAEDecoder, num_taps=2)
    with pytest.raises(ValueError, match='tokens of 1 blocks, the decoder is made for those of 2: .*num_taps=1'):
        decoder(latents_of(1), mask_of())
    with pytest.raises(ValueError, match='gives 6 tokens, the decoder wants 1 before the patches, then the 3 visible'):
        decoder(latents_of(2, tokens=6), mask_of())


def test_the_algorithm_tells_the_decoder_the_number_of_features():
    model = MODELS.build(model_cfg('cross'))
    assert model.backbone.out_indices == (0, 1, 2) and model.neck.decoder_feature_weights.shape == (2, 3)
    cfg = model_cfg('cross')
    cfg['neck']['num_taps'] = 2
    with pytest.raises(ValueError, match='neck.num_taps=2 disagrees with the backbone'):
        MODELS.build(cfg)


def test_activation_checkpointing_changes_nothing():
    plain = decoder_of(CrossMAEDecoder, num_taps=2)
    other = decoder_of(CrossMAEDecoder, num_taps=2, with_cp=True)
    latents, mask = latents_of(2), mask_of()
    for decoder in (plain, other):
        decoder(latents, mask).sin().sum().backward()
    for p, q in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=0, atol=0)


# MAE's decoder, linear decoder, mask tokens in the encoder


@pytest.mark.parametrize('tokens', [1 + 3, 1 + L], ids=['visible', 'all'])
def test_partial_prediction_of_mae_predicts_the_same(tokens):
    decoder, latents = decoder_of(MAEDecoder), latents_of(tokens=tokens)
    full = decoder(latents, mask_of())
    for P in (1, 3):
        torch.testing.assert_close(decoder(latents, mask_of(P=P)), full[:, -P:], rtol=1e-10, atol=1e-12)


def test_a_decoder_has_a_block():
    with pytest.raises(ValueError, match='decoder_depth=0'):
        CrossMAEDecoder(**SIZES, out_dim=10, decoder_depth=0)


@pytest.mark.parametrize('P', [None, 2])
def test_linear_decoder_reads_the_token_of_each_patch(P):
    cfg = dict(type='mae_plugin.LinearDecoder', embed_dim=24, out_dim=10)
    decoder, (latent, ), mask = MODELS.build(cfg).double(), latents_of(tokens=1 + L), mask_of(P=P)
    in_image_order = torch.stack([latent[b, 1:][mask.ids_restore[b]] for b in range(2)])
    expected = F.linear(in_image_order, decoder.decoder_pred.weight, decoder.decoder_pred.bias)
    expected = torch.stack([expected[b, mask.ids_pred[b]] for b in range(2)])
    torch.testing.assert_close(decoder((latent, ), mask), expected, rtol=1e-10, atol=1e-12)


def test_linear_decoder_without_the_tokens_names_both_sides():
    cfg = tiny_mae_cfg()
    cfg['neck'] = dict(type='mae_plugin.LinearDecoder')
    model = MODELS.build(cfg)
    with pytest.raises(ValueError, match='model.neck is a LinearDecoder.* model.backbone encodes only the 4 visible '
                                         'ones of 16 patches: take .*MaskTokenViT'):
        model.loss(torch.zeros(1, 3, 64, 64))


def test_mask_tokens_stand_where_patches_are_hidden():
    """A convolution over the image, patches replaced in image order, all blocks; then in the order of the mask."""
    vit, imgs, mask = tiny_vit(MaskTokenViT).double(), torch.randn(2, 3, 64, 32).double(), mask_of()
    patches = vit.patch_embed.proj(imgs).flatten(2).mT
    hidden = mask.mask.double().unsqueeze(-1)
    x = patches * (1 - hidden) + vit.mask_token * hidden + vit.pos_embed[:, 1:]
    x = torch.cat([(vit.cls_token + vit.pos_embed[:, :1]).expand(2, -1, -1), x], dim=1)
    for block in vit.blocks:
        x = block(x)
    x = vit.norm(x)
    expected = torch.stack([torch.cat([x[b, :1], x[b, 1:][mask.ids_shuffle[b]]]) for b in range(2)])
    torch.testing.assert_close(vit(imgs, mask)[0], expected, rtol=1e-9, atol=1e-10)


def test_without_a_mask_it_is_the_plain_vit():
    vit, plain = tiny_vit(MaskTokenViT), tiny_vit(PlainViT)
    plain.load_state_dict({name: value for name, value in vit.state_dict().items() if name != 'mask_token'})
    imgs = torch.randn(2, 3, 64, 32)
    assert torch.equal(vit(imgs)[0], plain(imgs)[0])
    assert vit.mask_token.std() > .01


def test_hidden_pixels_do_not_leak():
    vit, imgs, mask = tiny_vit(MaskTokenViT), torch.randn(2, 3, 64, 32), mask_of()
    hidden = F.interpolate(mask.mask.reshape(2, 1, *GRID), scale_factor=16).bool()
    assert torch.equal(vit(imgs.masked_fill(hidden, 9.), mask)[0], vit(imgs, mask)[0])
    assert not torch.equal(vit(imgs.masked_fill(~hidden, 9.), mask)[0], vit(imgs, mask)[0])


# Every decoder with every mask

MASKINGS = dict(all_hidden=dict(type='mae_plugin.RandomMasking', mask_ratio=.75),
                partial=dict(type='mae_plugin.RandomMasking', mask_ratio=.75, pred_ratio=.25),
                none=dict(type='mae_plugin.NoMasking'))
DECODERS = dict(
    mae=dict(backbone={}, neck={}),
    cross=dict(backbone=dict(out_indices=(0, 1, 2)), neck=dict(type='mae_plugin.CrossMAEDecoder')),
    cross_one=dict(backbone={}, neck=dict(type='mae_plugin.CrossMAEDecoder')),
    mask_tokens=dict(backbone=dict(type='mae_plugin.MaskTokenViT'), neck={}),
    cross_mask_tokens=dict(backbone=dict(type='mae_plugin.MaskTokenViT', out_indices=(1, 2)),
                           neck=dict(type='mae_plugin.CrossMAEDecoder')),
    linear=dict(backbone=dict(type='mae_plugin.MaskTokenViT'), neck=dict(type='mae_plugin.LinearDecoder')))


def model_cfg(name, masking='all_hidden'):
    cfg = tiny_mae_cfg(**DECODERS[name]['backbone'])
    neck = DECODERS[name]['neck']
    cfg['neck'] = neck if neck.get('type') == 'mae_plugin.LinearDecoder' else cfg['neck'] | neck
    return cfg | dict(masking=MASKINGS[masking])


def model_of(name, masking='all_hidden'):
    torch.manual_seed(0)
    model = MODELS.build(model_cfg(name, masking))
    model.init_weights()
    return model


@pytest.mark.parametrize('masking', MASKINGS)
@pytest.mark.parametrize('name', DECODERS)
def test_every_decoder_serves_every_mask(name, masking):
    """All that is trained has a gradient, which DDP waits for: of what this mask has no use for, zeros."""
    model = model_of(name, masking)
    loss, _ = gradients(model)
    assert loss > 0
    idle = {key for key, p in model.named_parameters() if p.requires_grad and not p.grad.any()}
    expected = set()
    if 'mask_tokens' in name or name == 'linear':
        expected = {'backbone.mask_token'} if masking == 'none' else set()
    if name in ('mae', 'mask_tokens') and (masking == 'none' or name == 'mask_tokens'):
        expected |= {'neck.mask_token'}
    assert idle == expected


@pytest.mark.parametrize('masking', ['all_hidden', 'partial'])
@pytest.mark.parametrize('name', [name for name in DECODERS if name != 'mae'])
def test_the_graphed_step_is_the_plain_step(name, masking):
    model = model_of(name, masking)
    plain, recorder = copy.deepcopy(model), StandIn()
    losses, _ = trained(model, 6, graphed(recorder))
    assert torch.equal(losses, trained(plain, 6)[0]) and recorder.replayed == 6 - WARM_UP
    torch.testing.assert_close(model.state_dict(), plain.state_dict(), rtol=0, atol=0)


@pytest.mark.gpu
@pytest.mark.parametrize('name', DECODERS)
def test_recorded_steps_of_every_decoder_are_the_plain_steps(name):
    model, plain = model_of(name, 'partial').cuda(), model_of(name, 'partial').cuda()
    losses = []
    for each, make in ((model, graphed(CUDAGraphRecorder())), (plain, None)):
        wrapper = wrapped(each)
        step = make(each, wrapper) if make else each.train_step
        losses.append(torch.stack([step(on_gpu(batch(i)), wrapper)['loss'] for i in range(10)]).detach())
        assert make is None or step.replay is not None and not step.off, 'nothing was recorded'
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-2, atol=0)


@pytest.mark.parametrize('name', DECODERS)
def test_in_bfloat16_it_is_near(name):
    model = model_of(name)
    expected, _ = gradients(model)
    with torch.autocast('cpu', torch.bfloat16):
        loss, grads = gradients(model)
    torch.testing.assert_close(loss, expected, rtol=.02, atol=0)
    assert all(grad.isfinite().all() for grad in grads.values())


def test_blocks_of_the_cross_decoder_are_compiled_and_timed(dynamo, said, monkeypatch):  # noqa: F811
    model = model_of('cross')
    plain = copy.deepcopy(model)
    found = []
    monkeypatch.setattr(fast_step, 'compile_blocks', found.extend)
    FastStepHook(compile=True, timed_attention=True).before_train(type('Runner', (), dict(model=model)))
    assert said[-1][1] == 'Fast step: 5 compiled blocks, timed attention in 5 layers.'
    monkeypatch.undo()
    fast_step.compile_blocks(blocks(model.neck), backend='eager')
    (loss, grads), (expected_loss, expected) = gradients(model), gradients(plain)
    assert dynamo['unique_graphs'] == 1
    torch.testing.assert_close(loss, expected_loss, rtol=1e-6, atol=0)
    torch.testing.assert_close(grads, expected, rtol=1e-4, atol=1e-7)


# Files


def saved(name, tmp_path):
    model = randomised(model_of(name))
    card = make_card(model, Config(dict(model=model_cfg(name))))
    path = tmp_path / f'{name}.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict(iter=3, mae_plugin=card)), path)
    return model, path


def started(cfg, path):
    model = MODELS.build(dict(cfg, init_cfg=dict(type='mae_plugin.MAEPretrained', checkpoint=str(path))))
    model.init_weights()
    return model


PLAIN = tiny_mae_cfg()['backbone']


@pytest.mark.parametrize('name', ['cross', 'linear', 'mask_tokens'])
def test_the_encoder_starts_a_plain_vit_and_goes_to_every_format(name, tmp_path):
    model, path = saved(name, tmp_path)
    imgs = torch.randn(2, 3, 64, 64)
    expected = model.backbone(imgs)[-1]
    assert torch.equal(started(PLAIN, path)(imgs)[0], expected)
    assert torch.equal(started(dict(PLAIN, type='mae_plugin.MaskTokenViT'), path)(imgs)[0], expected)
    for to in FORMATS:
        target = tmp_path / f'{to}.safetensors'
        if to != 'plugin':
            with pytest.raises(ValueError, match='--encoder-only leaves'):
                convert(path, target, to)
        convert(path, target, to, encoder_only=True)
        assert torch.equal(started(PLAIN, target)(imgs)[0], expected), to


@pytest.mark.parametrize('name', ['cross', 'cross_one', 'linear', 'mask_tokens'])
def test_our_own_format_holds_all_of_it(name, tmp_path):
    model, path = saved(name, tmp_path)
    convert(path, tmp_path / 'copy.safetensors', 'plugin')
    again = started(model_cfg(name), tmp_path / 'copy.safetensors')
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)
    card = read_weights(path).card
    assert card['backbone']['num_heads'] == 3 and card['backbone']['mlp_ratio'] == 4
    assert 'num_taps' not in card['decoder']


def test_one_decoder_is_not_taken_for_another(tmp_path):
    """Their names are nearly the same."""
    for name, other in (('cross_one', 'mae'), ('mae', 'cross_one'), ('linear', 'mask_tokens'), ('cross', 'cross_one')):
        _, path = saved(name, tmp_path)
        with pytest.raises(ValueError, match='has another decoder than the .*give init_cfg to the backbone'):
            started(model_cfg(other), path)


def test_inspection_names_them(tmp_path):
    _, path = saved('linear', tmp_path)
    facts = inspect_checkpoint(path)
    assert facts['decoder'] == 'LinearDecoder' and 'mask token' in facts['encoder']
    model, path = saved('cross', tmp_path)
    assert inspect_checkpoint(path)['decoder'] == 'CrossMAEDecoder'
    torch.save(model.state_dict(), path)  # without a card
    assert inspect_checkpoint(path)['decoder'] == 'a decoder with neck.decoder_feature_weights'


# Configs


def test_the_config_of_crossmae():
    """What is published; the rest is MAE's."""
    cfg, mae = (Config.fromfile(ROOT / f'configs/pretrain/{name}_vit-base-p16_in1k.py') for name in ('crossmae', 'mae'))
    assert cfg.model.neck.decoder_depth == 12 and cfg.model.masking.pred_ratio == .25
    rates = [each.optim_wrapper.optimizer.pop('lr') for each in (cfg, mae)]
    assert rates[0] == pytest.approx(rates[1] * .25 / .75)
    assert cfg.train_cfg.max_iters == 800 * 312
    assert cfg.model.backbone.pop('out_indices') == [*range(12)]
    for each in (cfg, mae):
        for key in ('neck', 'masking'):
            each.model.pop(key)
        for key in ('train_cfg', 'recipe'):
            each.pop(key)
    assert cfg.to_dict() == mae.to_dict()
