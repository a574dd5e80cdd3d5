"""Corruptions have the distribution they promise, and depend on the sample alone."""

import copy

import pytest
import torch
from conftest import tiny_mae_cfg
from mmengine.structures import BaseDataElement
from test_fast_step import StandIn, batch, graphed, trained

from mae_plugin.engine.graphed_step import WARM_UP
from mae_plugin.models import GaussianNoise, MaskingNoise, NoMasking, SaltAndPepper, corruptions
from mae_plugin.models.masked_autoencoder import hide
from mae_plugin.models.masking import sample_tensors
from mae_plugin.registry import MODELS

ALL = [GaussianNoise, MaskingNoise, SaltAndPepper]


def samples(number, first=0):
    return [BaseDataElement(metainfo=dict(sample_key=(0, 1, i))) for i in range(first, first + number)]


@pytest.fixture
def imgs():
    """Six different ones, far from 0."""
    torch.manual_seed(0)
    return 3 + torch.rand(6, 3, 40, 56)


@pytest.mark.parametrize('keyed', [True, False])
def test_gaussian_noise_is_gaussian(imgs, keyed):
    found = GaussianNoise(.5)(imgs, samples(6) if keyed else None)
    noise = ((found - imgs) / .5).double()
    number = noise.numel()
    assert noise.mean().abs() < 4 / number**.5 and abs(noise.std() - 1) < 4 / (2 * number)**.5
    assert abs(noise.pow(4).mean() - 3) < 4 * (96 / number)**.5
    values = noise.flatten().sort().values
    distance = (torch.special.ndtr(values) - torch.arange(1, number + 1) / number).abs().max()
    assert distance < 1.95 / number**.5, 'Kolmogorov and Smirnov, p = 0.001'
    channels = torch.corrcoef(noise.transpose(0, 1).flatten(1)) - torch.eye(3)
    assert channels.abs().max() < 4 / (number / 3)**.5, 'channels are not independent'


def test_the_tails_of_gaussian_noise_are_finite_and_symmetric():
    """The least and the largest uniform number."""
    noise = torch.tensor([0, 1 - 2**-24, .5]).view(1, 1, 1, 3)
    low, high, middle = GaussianNoise(1.).corrupt(torch.zeros(1, 1, 1, 3), noise).flatten().tolist()
    assert low == -high and 5 < high < 5.5 and 0 < middle < 1e-6


def test_masking_noise_hides_pixels(imgs):
    found = MaskingNoise(.3)(imgs, samples(6))
    hidden = (found == 0)
    assert torch.equal(hidden, hidden[:, :1].expand_as(hidden)), 'not all channels of a pixel'
    assert torch.equal(found[~hidden], imgs[~hidden])
    assert abs(hidden.float().mean() - .3) < 4 * (.21 / (6 * 40 * 56))**.5


def test_salt_and_pepper_are_the_extremes_of_the_image(imgs):
    found = SaltAndPepper(.3)(imgs, samples(6))
    low, high = (found == extreme(imgs, (2, 3), keepdim=True) for extreme in (torch.amin, torch.amax))
    assert torch.equal(found[~low & ~high], imgs[~low & ~high])
    for each in (low, high):
        # The extreme itself is one pixel of each channel more.
        assert (each != each[:, :1]).sum() <= 6 * 6
        assert abs(each.float().mean() - .15) < 4 * (.13 / (6 * 40 * 56))**.5


@pytest.mark.parametrize('corruption', ALL)
def test_a_corruption_depends_on_its_sample_alone(imgs, corruption, monkeypatch):
    before = imgs.clone()
    whole = corruption()(imgs, samples(6))
    assert torch.equal(imgs, before), 'the clean images have changed'
    torch.manual_seed(7)
    parts = [corruption()(imgs[i:i + 2], samples(2, i)) for i in (0, 2, 4)]
    assert torch.equal(whole, torch.cat(parts))
    assert torch.equal(whole, corruption()(imgs, sample_tensors(samples(6)))), 'as in a graph'
    assert torch.equal(whole, corruption().eval()(imgs, samples(6))), 'validation corrupts, too'
    for at_once in (1, 3 * 40 * 56 * 4):  # image by image; four and two
        monkeypatch.setattr(corruptions, '_AT_ONCE', at_once)
        assert torch.equal(whole, corruption()(imgs, samples(6)))
    assert not torch.equal(corruption()(imgs[:1], samples(1)), corruption()(imgs[:1], samples(1, 1)))


@pytest.mark.parametrize('make, message', [
    (lambda: GaussianNoise(0), 'std=0'), (lambda: MaskingNoise(1), 'ratio=1 '), (lambda: SaltAndPepper(-.1), '-0.1')])
def test_strengths_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def cfg_of(corruption, masking='NoMasking'):
    return dict(tiny_mae_cfg(), corruption=dict(type=f'mae_plugin.{corruption.__name__}'),
                masking=dict(type=f'mae_plugin.{masking}'))


@pytest.mark.parametrize('masking', ['NoMasking', 'RandomMasking'])
def test_the_target_is_the_clean_image(masking):
    """A backbone that sees the corrupted image, a head that is given the clean one."""
    model = MODELS.build(cfg_of(GaussianNoise, masking))
    model.init_weights()
    data = model.data_preprocessor(batch(0), True)
    _, clean, mask, seen = model._predict(data['inputs'], data['data_samples'])
    assert torch.equal(clean, data['inputs'])
    assert torch.equal(seen, model.corruption(clean, data['data_samples'])) and not torch.equal(seen, clean)
    assert mask.ids_pred.size(1) == dict(NoMasking=16, RandomMasking=12)[masking]


@pytest.mark.parametrize('corruption', ALL)
def test_the_recorded_step_is_the_plain_step(corruption):
    torch.manual_seed(0)
    model, recorder = MODELS.build(cfg_of(corruption)), StandIn()
    model.init_weights()
    plain = copy.deepcopy(model)
    losses, _ = trained(model, 8, graphed(recorder))
    assert torch.equal(losses, trained(plain, 8)[0])
    assert (recorder.recorded, recorder.replayed) == (1, 8 - WARM_UP)


@pytest.mark.gpu
@pytest.mark.parametrize('corruption', ALL)
def test_corruptions_on_the_gpu_neither_wait_nor_differ(corruption, imgs):
    expected, on_gpu = corruption()(imgs, samples(6)), imgs.cuda()
    keys = sample_tensors(samples(6))['sample_key'].cuda()
    torch.cuda.set_sync_debug_mode('error')
    try:
        found = [corruption()(on_gpu, given) for given in (samples(6), dict(sample_key=keys))]
    finally:
        torch.cuda.set_sync_debug_mode('default')
    for each in found:
        torch.testing.assert_close(each.cpu(), expected, rtol=1e-5, atol=1e-5)


def test_there_is_no_noise_where_there_is_no_data(imgs):
    imgs = imgs.clone()
    imgs[:, :, :5] = torch.nan
    clean, seen, mask = hide(imgs, None, NoMasking(), GaussianNoise(), (1, 1), nodata=True)
    assert torch.equal(seen == 0, imgs.isnan()) and torch.equal(clean, imgs.nan_to_num(0))
    assert torch.equal(mask.valid, ~imgs.isnan())
