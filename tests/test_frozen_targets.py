"""Targets by networks that are no part of the model: features of timm's, tokens of DALL-E's; and every target in the
fast step.
"""

import copy
import math

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from conftest import tiny_mae_cfg
from mmengine.structures import BaseDataElement
from test_fast_step import StandIn, batch, equal_models, graphed, on_gpu, trained, wrapped

from mae_plugin.engine import CUDAGraphRecorder
from mae_plugin.engine.graphed_step import WARM_UP
from mae_plugin.models import FeatureTarget, PatchMask
from mae_plugin.models.frozen import resize_map
from mae_plugin.registry import MODELS

NORMALISATION = dict(pixel_mean=[123.675, 116.28, 103.53], pixel_std=[58.395, 57.12, 57.375])
FEATURES = dict(type='mae_plugin.FeatureTarget', teacher='test_vit')
TOKENS = dict(type='mae_plugin.DALLETarget', encoder=dict(n_hid=8, n_blk_per_group=1, vocab_size=16))


def model_cfg(target, head='PixelReconstructionHead', **kwargs):
    return dict(tiny_mae_cfg(), head=dict(type=f'mae_plugin.{head}', target=target, **kwargs))


def built(target, head='PixelReconstructionHead', **kwargs):
    torch.manual_seed(0)
    model = MODELS.build(model_cfg(target, head, **kwargs))
    model.init_weights()
    return model


def dalle(**kwargs):
    pytest.importorskip('mmpretrain')
    return MODELS.build(dict(TOKENS, patch_size=16, **NORMALISATION, **kwargs))


def features(**kwargs):
    return FeatureTarget(**{**dict(patch_size=16, teacher='test_vit', img_size=64), **NORMALISATION, **kwargs})


def some_images(size=(64, 64)):
    """Pixel values, and the same normalised."""
    pixels = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) * 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in NORMALISATION.values())
    return pixels, (pixels - mean) / std


# Features


@pytest.mark.parametrize('norm', [False, True])
@pytest.mark.parametrize('layer', [-1, 2])
def test_features_are_what_timm_gives_for_the_pixels(norm, layer):
    """With its own mean and standard deviation, at the places of the predicted patches."""
    pixels, imgs = some_images((64, 96))
    target = features(img_size=(64, 96), layer=layer, norm=norm)
    teacher = target._teacher.network
    mask = PatchMask.from_scores(torch.rand(2, 24), 6, (4, 6))
    found = target(imgs, mask)
    assert teacher.pretrained_cfg['mean'] == (.5, .5, .5)
    with torch.no_grad():
        maps = teacher.forward_intermediates((pixels / 255 - .5) / .5, intermediates_only=True)[layer]
    for b in range(2):
        expected = torch.stack([maps[b, :, i // 6, i % 6] for i in mask.ids_pred[b].tolist()])
        if norm:
            expected = (expected - expected.mean(1, keepdim=True)) / (expected.var(1, keepdim=True, correction=0)
                                                                      + 1e-5).sqrt()
        torch.testing.assert_close(found[b], expected, atol=1e-4, rtol=1e-4)
    assert not found.requires_grad and target.dim == 64


def test_maps_are_averaged_or_interpolated():
    ramp = torch.arange(8.).expand(1, 1, 4, 8)
    assert resize_map(ramp, (4, 8)) is ramp
    torch.testing.assert_close(resize_map(ramp, (4, 4))[0, 0, 0, 1:3], torch.tensor([2.5, 4.5]))  # pairs
    torch.testing.assert_close(resize_map(ramp, (4, 16))[0, 0, 0, 1:4], torch.tensor([.25, .75, 1.25]))
    assert resize_map(torch.rand(1, 2, 9, 7), (4, 10)).shape == (1, 2, 4, 10)
    assert resize_map(torch.eye(8).view(8, 1, 1, 8), (1, 2)).sum((1, 2, 3)).min() > .05, 'one does not count'


def test_a_network_of_stages_and_a_size_of_its_own():
    _, imgs = some_images()
    mask = PatchMask.from_scores(torch.rand(2, 16), 4, (4, 4))
    target = features(teacher='test_resnet', layer=3, teacher_size=(96, 128), norm=False)
    assert target._features(imgs).shape[1:] == (192, 6, 8)
    maps = resize_map(target._features(imgs), (4, 4)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(target(imgs, mask), maps.gather(1, mask.ids_pred[..., None].expand(-1, -1, 192)))


@pytest.mark.parametrize('target, head', [(FEATURES, 'PixelReconstructionHead'), (TOKENS, 'TokenPredictionHead')])
def test_the_network_is_no_part_of_the_model(target, head):
    """Of its parameters, its checkpoint, its random numbers, its modes and its initialisation."""
    if target is TOKENS:
        pytest.importorskip('mmpretrain')
    plain, model = built(dict(type='mae_plugin.PixelTarget')), built(target, head)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in plain.named_parameters()]
    state = torch.get_rng_state()
    MODELS.build(dict(target, patch_size=16, **NORMALISATION, **(dict(img_size=64) if target is FEATURES else {})))
    assert torch.equal(torch.get_rng_state(), state)
    frozen = next(value for value in vars(model.head.target).values() if hasattr(value, 'network')).network
    before = copy.deepcopy(frozen.state_dict())
    again = built(target, head).train().head.target
    losses, _ = trained(model.train(), 3)
    assert losses.isfinite().all() and not frozen.training
    assert not any(p.requires_grad for p in frozen.parameters())
    torch.testing.assert_close(frozen.state_dict(), before, rtol=0, atol=0)
    other = next(value for value in vars(again).values() if hasattr(value, 'network')).network
    torch.testing.assert_close(other.state_dict(), before, rtol=0, atol=0)  # a resumed run has the same one


def test_weights_from_a_file(tmp_path):
    torch.manual_seed(1)
    network = timm.create_model('test_vit', img_size=64)
    torch.save(dict(state_dict=network.state_dict()), tmp_path / 'teacher.pth')
    target = features(checkpoint=str(tmp_path / 'teacher.pth'))
    torch.testing.assert_close(target._teacher.network.state_dict(), network.state_dict(), rtol=0, atol=0)
    resized = features(checkpoint=str(tmp_path / 'teacher.pth'), teacher_size=(96, 64))._teacher.network
    assert resized.pos_embed.shape[1] == 25 and torch.equal(resized.cls_token, network.cls_token)
    with pytest.raises(ValueError, match='no such model of .*teacher.pth: .*ResNet: Missing key'):
        features(teacher='test_resnet', checkpoint=str(tmp_path / 'teacher.pth'))
    with pytest.raises(FileNotFoundError, match='no.pth'):
        features(checkpoint=str(tmp_path / 'no.pth'))


def test_random_weights_are_said_once(monkeypatch):
    said = []
    monkeypatch.setattr('mae_plugin.models.frozen.print_log', lambda text, **kwargs: said.append(text))
    features()
    assert len(said) == 1 and "head.target.teacher='test_vit' has random weights" in said[0]


@pytest.mark.parametrize('kwargs, message', [
    (dict(teacher='test_vitt'), "teacher='test_vitt': timm makes no such model.*did you mean test_vit"),
    (dict(in_chans=4), "teacher='test_vit' sees images of 3 channels, the backbone has in_chans=4"),
    (dict(layer=9), 'no features of layer=9 of images of 64x64.*set layer'),
    (dict(teacher_size=10), "teacher='test_vit'"),
    (dict(pixel_mean=None), 'data_preprocessor=dict')], ids=str)
def test_a_teacher_that_does_not_fit_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        features(**kwargs)


def test_the_normalisation_comes_from_the_data_preprocessor():
    cfg = model_cfg(FEATURES)
    cfg['data_preprocessor'] = dict(type='mae_plugin.MAEDataPreprocessor', mean=[0., 0., 0.], std=[1., 1., 1.])
    pixels, imgs = some_images()
    ours, other = MODELS.build(model_cfg(FEATURES)), MODELS.build(cfg)
    mask = PatchMask.from_scores(torch.rand(2, 16), 4, (4, 4))
    torch.testing.assert_close(other.head.target(pixels, mask), ours.head.target(imgs, mask), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match='data_preprocessor=dict'):
        MODELS.build(dict(model_cfg(FEATURES), data_preprocessor=None))


# Tokens


def test_tokens_are_the_likeliest_of_mapped_pixels():
    """One for 8x8 pixels, of values from 0.1 to 0.9."""
    target = dalle()
    pixels, imgs = some_images((24, 32))
    with torch.no_grad():
        logits = target._encoder.network(.1 + .8 * pixels / 255)
    assert torch.equal(target.tokens(imgs, (3, 4)), logits.argmax(dim=1).flatten(1))
    assert target.dim == 16 and target.tokens(some_images()[1], (4, 4)).shape == (2, 16)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(target.tokens(imgs, (3, 4)), logits.argmax(dim=1).flatten(1))


def test_an_encoder_from_a_file(tmp_path):
    network = dalle()._encoder.network
    for p in network.parameters():
        p.data.neg_()
    torch.save(network.state_dict(), tmp_path / 'encoder.pth')
    loaded = dalle(checkpoint=str(tmp_path / 'encoder.pth'))._encoder.network
    torch.testing.assert_close(loaded.state_dict(), network.state_dict(), rtol=0, atol=0)
    with pytest.raises(ValueError, match='encoder.pth does not fit DALLEEncoder.*size mismatch'):
        dalle(checkpoint=str(tmp_path / 'encoder.pth'), encoder=dict(n_hid=4, n_blk_per_group=1))


def test_cross_entropy_starts_at_that_of_a_guess():
    pytest.importorskip('mmpretrain')
    model = built(TOKENS, 'TokenPredictionHead')
    with torch.no_grad():
        model.neck.decoder_pred.weight.zero_()
        sample, = model.val_step(batch(0, 1))
        assert sample.masked_loss.item() == pytest.approx(math.log(16))
        assert 'masked_mse' not in sample


# In the fast step


def every_head(tmp_path):
    np.savez(tmp_path / 'pca.npz', mean=np.zeros(768), basis=np.eye(768), patch_size=(16, 16), in_chans=3,
             **NORMALISATION)
    return dict(
        raw=(dict(type='mae_plugin.PixelTarget', norm_pix=False), ), norm_pix=(dict(type='mae_plugin.PixelTarget'), ),
        dct=(dict(type='mae_plugin.PCATarget'), ),
        pca=(dict(type='mae_plugin.PCATarget', components=8, basis=str(tmp_path / 'pca.npz')), ),
        hog=(dict(type='mae_plugin.HOGTarget'), ), features=(FEATURES, ), tokens=(TOKENS, 'TokenPredictionHead'))


NAMES = ['raw', 'norm_pix', 'dct', 'pca', 'hog', 'features', 'tokens']


@pytest.mark.parametrize('name', NAMES)
def test_graphed_steps_of_every_target_are_the_plain_steps(tmp_path, name):
    """Bit by bit; and an image's loss does not depend on its batch."""
    if name == 'tokens':
        pytest.importorskip('mmpretrain')
    model = built(*every_head(tmp_path)[name])
    plain, recorder = copy.deepcopy(model), StandIn()
    losses, _ = trained(model, WARM_UP + 3, graphed(recorder))
    expected, _ = trained(plain, WARM_UP + 3)
    assert torch.equal(losses, expected) and recorder.replayed == 3
    equal_models(model, plain)
    together = model.val_step(batch(0))
    alone = [model.val_step(dict(inputs=batch(0)['inputs'][i:i + 1], data_samples=[
        BaseDataElement(metainfo=dict(sample_key=(0, 0, i)))]))[0] for i in range(4)]
    torch.testing.assert_close([s.masked_loss for s in together], [s.masked_loss for s in alone], rtol=1e-4, atol=0)


@pytest.mark.gpu
@pytest.mark.parametrize('name', NAMES)
def test_recorded_steps_of_every_target_on_a_gpu(tmp_path, name):
    """They are recorded, do not wait for the device, and have the losses of the plain steps."""
    if name == 'tokens':
        pytest.importorskip('mmpretrain')
    model = built(*every_head(tmp_path)[name]).cuda()
    plain = copy.deepcopy(model)
    wrapper, plain_wrapper = wrapped(model, 'float32'), wrapped(plain, 'float32')
    step = graphed(CUDAGraphRecorder())(model, wrapper)
    for i in range(WARM_UP + 4):
        loss = step(on_gpu(batch(i)), wrapper)['loss']
        expected = plain.train_step(on_gpu(batch(i)), plain_wrapper)['loss'].detach()
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
    assert step.replay is not None and not step.off, 'nothing was recorded'


@pytest.mark.gpu
def test_a_network_follows_the_images_to_the_gpu():
    target = features()
    _, imgs = some_images()
    mask = PatchMask.from_scores(torch.rand(2, 16), 4, (4, 4))
    expected = target(imgs, mask)
    on_device = PatchMask(mask.ids_shuffle.cuda(), 4, (4, 4))
    torch.testing.assert_close(target(imgs.cuda(), on_device).cpu(), expected, rtol=1e-2, atol=1e-2)
    assert F.cosine_similarity(target(imgs.cuda(), on_device).cpu().flatten(), expected.flatten(), dim=0) > .9999
