"""What a picture of a reconstruction is made of: hidden, predicted and visible patches, PSNR, bands, no data."""

import math

import numpy as np
import pytest
import torch
from conftest import tiny_mae_cfg
from mmengine.structures import BaseDataElement

from mae_plugin.models import Target
from mae_plugin.registry import MODELS
from mae_plugin.visualization.reconstruction import Display, is_normalised, panel, reconstruct, why_no_pixels

GREY = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)


class Constant(torch.nn.Module):
    """Predicts a number for all that is wanted."""

    def __init__(self, value, dim):
        super().__init__()
        self.value, self.dim = value, dim

    def forward(self, latents, mask):
        return torch.full((*mask.ids_pred.shape, self.dim), float(self.value))


def model_of(norm_pix=False, prediction=None, size=(64, 64), patch_size=16, in_chans=3, masking=None, **parts):
    cfg = tiny_mae_cfg(img_size=size, patch_size=patch_size, in_chans=in_chans)
    cfg['head']['target']['norm_pix'] = norm_pix
    cfg['masking'] |= masking or {}
    if in_chans != 3:
        cfg['data_preprocessor'].update(mean=[*range(100, 100 + in_chans)], std=[*range(10, 10 + in_chans)])
    torch.manual_seed(0)
    model = MODELS.build(cfg | parts).eval()
    if prediction is not None:
        model.neck = Constant(prediction, model.head.target.dim)
    return model


def samples_of(model, count=3, dtype=torch.uint8):
    generator = torch.Generator().manual_seed(1)
    H, W = model.backbone.img_size
    imgs = torch.randint(0, 256, (count, model.backbone.in_chans, H, W), generator=generator).to(dtype)
    return [dict(inputs=image, data_samples=BaseDataElement(metainfo=dict(sample_key=(0, 0, i))))
            for i, image in enumerate(imgs)]


def found_of(model, samples):
    data = model.data_preprocessor(dict(inputs=[sample['inputs'] for sample in samples],
                                        data_samples=[sample['data_samples'] for sample in samples]))
    found = model.reconstruct(data['inputs'], data['data_samples'])
    mask = model.masking(data['inputs'], model.backbone.grid, data['data_samples'])
    return found, torch.stack([sample['inputs'] for sample in samples]).float(), mask


def pixels_of(patches, model):
    """(B, L) at each pixel, (B, 1, H, W), by loops."""
    (h, w), (p, q) = model.backbone.grid, model.backbone.patch_size
    made = torch.zeros(len(patches), 1, h * p, w * q, dtype=torch.bool)
    for b, row in enumerate(patches):
        for i, value in enumerate(row.tolist()):
            made[b, 0, i // w * p:(i // w + 1) * p, i % w * q:(i % w + 1) * q] = bool(value)
    return made


@pytest.mark.parametrize('size, patch_size, in_chans', [((64, 64), 16, 3), ((32, 48), (16, 8), 5), ((32, 32), 8, 1)])
def test_visible_patches_stay_and_hidden_ones_are_grey_or_predicted(size, patch_size, in_chans):
    """Raw predictions of 0.5: half a standard deviation above the mean, whatever the image."""
    model = model_of(prediction=.5, size=size, patch_size=patch_size, in_chans=in_chans)
    found, original, mask = found_of(model, samples_of(model))
    hidden = pixels_of(mask.mask, model).expand_as(original)
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    assert 0 < hidden.sum() < hidden.numel()
    torch.testing.assert_close(found.original, original, rtol=0, atol=1e-3)
    for picture in (found.seen, found.pasted):
        assert torch.equal(picture[~hidden], found.original[~hidden])
    assert torch.equal(found.seen[hidden], mean.expand_as(original)[hidden])
    torch.testing.assert_close(found.pasted[hidden], (mean + std / 2).expand_as(original)[hidden])
    assert torch.equal(found.prediction[hidden], found.pasted[hidden])
    assert torch.equal(found.prediction[~hidden], mean.expand_as(original)[~hidden])
    for i, psnr in enumerate(found.psnr.tolist()):
        mse = (found.pasted[i] - original[i])[hidden[i]].double().square().mean().item()
        assert psnr == pytest.approx(10 * math.log10(255**2 / mse), abs=1e-4)


def test_psnr_by_hand():
    """A prediction of 2 for images of one colour, the mean: an error of 2 std in each channel."""
    model = model_of(prediction=2)
    samples = samples_of(model, 1)
    samples[0]['inputs'] = GREY.expand(3, 64, 64)
    expected = 10 * math.log10(255**2 / (4 * (58.395**2 + 57.12**2 + 57.375**2) / 3))
    assert found_of(model, samples)[0].psnr.tolist() == pytest.approx([expected], abs=1e-4)


@pytest.mark.parametrize('norm_pix', [False, True])
def test_a_perfect_prediction_is_the_original(norm_pix):
    model = model_of(norm_pix)
    samples = samples_of(model)

    class Perfect(torch.nn.Module):
        def forward(self, latents, mask):
            imgs = model.data_preprocessor(dict(inputs=[sample['inputs'] for sample in samples]))['inputs']
            return model.head.target(imgs, mask)

    model.neck = Perfect()
    found, original, _ = found_of(model, samples)
    torch.testing.assert_close(found.pasted, original, rtol=0, atol=1e-3)
    assert found.psnr.min() > 100


def test_hidden_patches_that_are_not_predicted_stay_grey():
    model = model_of(prediction=1, masking=dict(pred_ratio=.25))
    found, original, mask = found_of(model, samples_of(model))
    predicted = torch.zeros_like(mask.mask).scatter_(1, mask.ids_pred, 1)
    assert predicted.sum() == 3 * 4 and mask.mask.sum() == 3 * 12
    grey = pixels_of(mask.mask - predicted, model).expand_as(original)
    assert torch.equal(found.pasted[grey], GREY.expand_as(original)[grey])
    shown = pixels_of(predicted, model).expand_as(original)
    mse = (found.pasted - original)[shown].view(3, -1).square().mean(dim=1)
    torch.testing.assert_close(found.psnr, 10 * torch.log10(255**2 / mse), rtol=1e-5, atol=1e-4)


class Darker(torch.nn.Module):
    def forward(self, imgs, data_samples):
        return imgs - 1


def test_the_corrupted_image_is_what_is_seen():
    model = model_of(prediction=0, corruption=dict(type=Darker))
    found, original, mask = found_of(model, samples_of(model))
    seen = pixels_of(mask.mask < 1, model).expand_as(original)
    darker = original - model.data_preprocessor.std
    torch.testing.assert_close(found.seen[seen], darker[seen], rtol=0, atol=1e-3)
    torch.testing.assert_close(found.pasted[seen], darker[seen], rtol=0, atol=1e-3)
    torch.testing.assert_close(found.original, original, rtol=0, atol=1e-3)


def test_where_there_is_no_data_nothing_counts_and_a_colour_says_so():
    model = model_of(prediction=0)
    model.data_preprocessor.nodata = True
    samples = samples_of(model, dtype=torch.float32)
    before = found_of(model, samples)[0]
    for sample in samples:
        sample['inputs'][:, :20] = float('nan')
    found, _, mask = found_of(model, samples)
    counted = (pixels_of(mask.mask, model) & found.valid).expand_as(found.valid)
    assert found.valid[:, :, 20:].all() and not found.valid[:, :, :20].any()
    for i in range(3):
        mse = (found.pasted - before.original)[i][counted[i]].square().mean()
        torch.testing.assert_close(found.psnr[i], 10 * torch.log10(255**2 / mse), rtol=1e-5, atol=1e-4)
    for column in [reconstruct(model, samples).columns[i] for i in (0, 1, 3)]:
        colours = np.unique(column[0][:20].reshape(-1, 3), axis=0)
        assert len(colours) == 1 and len(np.unique(colours)) == 3  # one that is no grey


class Mean(Target):
    """The mean of each patch, from which no pixels can be made."""

    dim = 1

    def forward(self, imgs, mask):
        return self._patches(imgs, mask).mean(dim=-1, keepdim=True)


def test_of_a_target_without_pixels_there_is_what_is_seen():
    cfg = tiny_mae_cfg()
    cfg['head']['target'] = dict(type=Mean)
    model = MODELS.build(cfg).eval()
    pictures = reconstruct(model, samples_of(model))
    assert pictures.psnr is None and [len(column) for column in pictures.columns] == [3, 3]
    assert [len(group) for group in panel('x', pictures, is_normalised(model)).groups] == [2, 2, 2]
    assert 'is a Mean' in why_no_pixels(model) and why_no_pixels(model_of()) is None


def test_the_panel_says_what_is_taken_from_the_original():
    model = model_of(norm_pix=True)
    sheet = panel('Iteration 1', reconstruct(model, samples_of(model)), is_normalised(model), side=64)
    assert sheet.groups[0][2].note == 'brightness, contrast:\nof the original' and ' dB' in sheet.groups[0][3].note
    assert sheet.to_image().width > 4 * 64
    raw = model_of()
    assert not panel('x', reconstruct(raw, samples_of(raw)), is_normalised(raw)).groups[0][2].note


MEAN, STD = torch.arange(5.).view(5, 1, 1) * 100, torch.full((5, 1, 1), 50.)


def test_bands_are_chosen_and_stretched():
    """Band i has the mean 100 i: it is in the middle, two deviations above is white, beyond is clipped."""
    imgs = MEAN + STD * torch.tensor([-2., -1., 0., 2., 9.]).view(5, 1, 1) * torch.ones(1, 5, 2, 3)
    stretched = [0, 64, 128, 255, 255]
    for bands, wanted in ((None, [0, 1, 2]), ([4, 2, 0], [4, 2, 0]), ([3], [3, 3, 3])):
        picture, = Display(MEAN, STD, bands, stretch=True)(imgs)
        assert picture.shape == (2, 3, 3) and picture.dtype == np.uint8
        assert picture[1, 1].tolist() == [stretched[band] for band in wanted]
    picture, = Display(MEAN, STD, [0, 1, 2])(imgs)  # 8-bit: as they are, clipped
    assert picture[0, 0].tolist() == [0, 50, 200]
    picture, = Display(MEAN[:2], STD[:2], stretch=True)(imgs[:, :2])
    assert picture[0, 0].tolist() == [0, 0, 0]  # two channels: the first in grey


@pytest.mark.parametrize('bands', [[5], [0, 1], [-1, 0, 1], []])
def test_bands_that_cannot_be_shown(bands):
    with pytest.raises(ValueError, match=r'bands=.*each from 0 to 4, for the images have 5'):
        Display(MEAN, STD, bands)


def test_bytes_are_shown_as_they_are_and_other_numbers_stretched():
    model = model_of()
    samples = samples_of(model)
    original = reconstruct(model, samples).columns[0][0]
    np.testing.assert_array_equal(original, samples[0]['inputs'].permute(1, 2, 0).numpy())
    for sample in samples:
        sample['inputs'] = sample['inputs'].float()
    assert not np.array_equal(reconstruct(model, samples).columns[0][0], original)


def test_of_a_denoising_autoencoder_all_is_seen_and_all_is_predicted():
    cfg = tiny_mae_cfg() | dict(masking=dict(type='mae_plugin.NoMasking'), corruption=dict(type=Darker))
    cfg['head']['target']['norm_pix'] = False
    model = MODELS.build(cfg).eval()
    model.neck = Constant(1, model.head.target.dim)
    found, original, _ = found_of(model, samples_of(model))
    std = model.data_preprocessor.std
    torch.testing.assert_close(found.seen, original - std, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.pasted, (GREY + std).expand_as(original))
    assert torch.equal(found.pasted, found.prediction)
