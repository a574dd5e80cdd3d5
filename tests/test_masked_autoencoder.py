import math

import pytest
import torch
from conftest import tiny_mae_cfg
from mmengine.structures import BaseDataElement

from mae_plugin.models import Masking, Target
from mae_plugin.registry import MODELS


def batch(size=4, side=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    imgs = [torch.randint(0, 256, (3, side, side), dtype=torch.uint8, generator=generator) for _ in range(size)]
    samples = [BaseDataElement(metainfo=dict(sample_key=(0, 0, i))) for i in range(size)]
    return dict(inputs=imgs, data_samples=samples)


def test_loss_is_the_mean_over_hidden_patches_by_hand(tiny_mae):
    data = tiny_mae.data_preprocessor(batch())
    imgs, samples = data['inputs'], data['data_samples']
    loss = tiny_mae(**data, mode='loss')['loss']
    mask = tiny_mae.masking(imgs, (4, 4), samples)
    pred = tiny_mae.neck(tiny_mae.backbone(imgs, mask), mask)
    total = 0.
    for b in range(4):
        for p in range(12):
            row, column = divmod(mask.ids_pred[b, p].item(), 4)
            patch = imgs[b, :, row * 16:row * 16 + 16, column * 16:column * 16 + 16].permute(1, 2, 0).flatten()
            patch = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
            total += (pred[b, p] - patch).square().mean()
    torch.testing.assert_close(loss, total / 48)


def test_sizes_are_passed_from_the_backbone():
    model = MODELS.build(tiny_mae_cfg(img_size=(32, 48), patch_size=8, in_chans=5))
    assert model.neck.grid == (4, 6)
    assert model.neck.decoder_pred.out_features == model.head.target.dim == 8 * 8 * 5


@pytest.mark.parametrize('part, name, value', [('neck', 'img_size', 32), ('neck', 'embed_dim', 64),
                                               ('neck', 'out_dim', 3)])
def test_sizes_that_disagree_are_an_error(part, name, value):
    cfg = tiny_mae_cfg()
    cfg[part][name] = value
    with pytest.raises(ValueError, match=f'{part}.{name}={value} disagrees with the backbone'):
        MODELS.build(cfg)
    cfg = tiny_mae_cfg()
    cfg['head']['target']['patch_size'] = 8
    with pytest.raises(ValueError, match='head.target.patch_size=8 disagrees'):
        MODELS.build(cfg)


def test_a_head_without_a_target_is_refused():
    cfg = tiny_mae_cfg()
    del cfg['head']['target']
    with pytest.raises(ValueError, match='needs a target'):
        MODELS.build(cfg)


def test_predict_reports_loss_and_pixel_error(tiny_mae):
    data = tiny_mae.data_preprocessor(batch())
    samples = tiny_mae(**data, mode='predict')
    torch.testing.assert_close(
        torch.stack([sample.masked_loss for sample in samples]).mean(), tiny_mae(**data, mode='loss')['loss'])

    class Perfect(torch.nn.Module):
        def forward(self, latents, mask):
            return tiny_mae.head.target(data['inputs'], mask)

    tiny_mae.neck = Perfect()
    for sample in tiny_mae(**data, mode='predict'):
        assert sample.masked_loss < 1e-10 and sample.masked_mse < 1e-6

    class OffByOneDeviation(Perfect):
        def forward(self, latents, mask):
            return super().forward(latents, mask) + 1

    tiny_mae.neck = OffByOneDeviation()
    mask = tiny_mae.masking(data['inputs'], (4, 4), data['data_samples'])
    for i, sample in enumerate(tiny_mae(**data, mode='predict')):
        variances = []
        for patch in mask.ids_pred[i].tolist():
            row, column = divmod(patch, 4)
            pixels = data['inputs'][i, :, row * 16:row * 16 + 16, column * 16:column * 16 + 16]
            variances.append(pixels.var() * (tiny_mae.data_preprocessor.std ** 2).mean())
        torch.testing.assert_close(sample.masked_mse, torch.stack(variances).mean(), rtol=1e-4, atol=1e-3)


def test_every_trained_parameter_gets_a_gradient_and_positions_stay(tiny_mae):
    tiny_mae(**tiny_mae.data_preprocessor(batch()), mode='loss')['loss'].backward()
    for name, parameter in tiny_mae.named_parameters():
        assert name.endswith('pos_embed') != parameter.requires_grad
        assert not parameter.requires_grad or parameter.grad.abs().sum() > 0, name


def test_loss_falls_on_one_batch(tiny_mae):
    from mmengine.optim import OptimWrapper
    wrapper = OptimWrapper(torch.optim.AdamW(tiny_mae.parameters(), lr=3e-3))
    losses = [tiny_mae.train_step(batch(), wrapper)['loss'].item() for _ in range(30)]
    assert losses[-1] < .8 * losses[0]


def test_tensor_mode_hides_nothing_and_is_deterministic(tiny_mae):
    imgs = tiny_mae.data_preprocessor(batch())['inputs']
    assert torch.equal(tiny_mae(imgs), tiny_mae(imgs))
    assert tiny_mae(imgs).shape == (4, 17, 48)
    with pytest.raises(ValueError, match="'train' is not one of"):
        tiny_mae(imgs, mode='train')


def test_preprocessor_normalises_and_refuses_mixed_sizes(tiny_mae):
    data = batch(2)
    out = tiny_mae.data_preprocessor(data)['inputs']
    expected = (data['inputs'][1][2].float() - 103.53) / 57.375
    torch.testing.assert_close(out[1, 2], expected)
    torch.testing.assert_close(tiny_mae.data_preprocessor.to_pixels(out)[1], data['inputs'][1].float())
    data['inputs'][0] = data['inputs'][0][:, :32]
    with pytest.raises(ValueError, match='differ in shape'):
        tiny_mae.data_preprocessor(data)
    with pytest.raises(ValueError, match='1 channels, data_preprocessor.mean has 3'):
        tiny_mae.data_preprocessor(dict(inputs=[torch.zeros(1, 64, 64, dtype=torch.uint8)]))


def test_partial_prediction_is_a_part_of_the_whole(tiny_mae):
    """The same patches are predicted the same way; the loss is the mean over fewer."""
    data = tiny_mae.data_preprocessor(batch())
    imgs, samples = data['inputs'], data['data_samples']
    tiny_mae.neck.double(), tiny_mae.backbone.double()
    imgs = imgs.double()
    whole = tiny_mae.masking(imgs, (4, 4), samples)
    tiny_mae.masking.pred_ratio = .25
    part = tiny_mae.masking(imgs, (4, 4), samples)
    assert part.ids_pred.shape == (4, 4) and torch.equal(part.ids_pred, whole.ids_pred[:, -4:])
    assert torch.equal(part.ids_keep, whole.ids_keep) and torch.equal(part.mask, whole.mask)
    preds = [tiny_mae.neck(tiny_mae.backbone(imgs, mask), mask) for mask in (whole, part)]
    torch.testing.assert_close(preds[1], preds[0][:, -4:], rtol=1e-12, atol=1e-12)
    expected = (preds[1] - tiny_mae.head.target(imgs, part)).square().mean()
    torch.testing.assert_close(tiny_mae.loss(imgs, samples)['loss'], expected)


class Inverted(torch.nn.Module):
    def forward(self, imgs, data_samples=None):
        return -imgs


def test_a_denoising_autoencoder_sees_the_corrupted_and_predicts_all_of_the_clean():
    MODELS.register_module(module=Inverted, force=True)
    torch.manual_seed(0)
    cfg = tiny_mae_cfg()
    cfg['head']['target']['norm_pix'] = False
    model = MODELS.build(dict(cfg, masking=dict(type='mae_plugin.NoMasking'),
                              corruption=dict(type='mae_plugin.Inverted')))
    model.init_weights()
    data = model.data_preprocessor(batch())
    imgs = data['inputs']
    mask = model.masking(imgs, (4, 4))
    assert torch.equal(mask.ids_keep, mask.ids_pred) and mask.ids_keep.shape == (4, 16) and not mask.mask.any()
    latents = model.backbone(-imgs)  # what no mask was given for
    pred = model.neck(latents, mask)
    torch.testing.assert_close(
        model(**data, mode='loss')['loss'], (pred - model.head.target(imgs, mask)).square().mean())
    model(**data, mode='loss')['loss'].backward()
    assert model.neck.mask_token.grad is not None and not model.neck.mask_token.grad.any()  # DDP waits for it


@pytest.mark.parametrize('norm_pix', [False, True])
def test_pixels_without_data_count_for_nothing(norm_pix):
    torch.manual_seed(0)
    cfg = tiny_mae_cfg()
    cfg['head']['target']['norm_pix'] = norm_pix
    model = MODELS.build(cfg)
    model.init_weights()
    data = model.data_preprocessor(batch())
    imgs, samples = data['inputs'], data['data_samples']
    plain = model.loss(imgs, samples)['loss']
    model.data_preprocessor.nodata = True
    torch.testing.assert_close(model.loss(imgs, samples)['loss'], plain)  # where there is data everywhere

    mask = model.masking(imgs, (4, 4), samples)
    without = imgs.clone()
    without[0, 0, ::2] = torch.nan  # some pixels, in one channel
    without[1] = torch.nan  # an image
    losses = torch.stack([sample.masked_loss for sample in model.predict(without, samples)])
    filled, valid = without.nan_to_num(0), ~without.isnan()
    pred = model.neck(model.backbone(filled, mask), mask)
    total = 0
    for b in range(4):
        mine = []
        for p, patch in enumerate(mask.ids_pred[b].tolist()):
            place = (b, slice(None), slice(patch // 4 * 16, patch // 4 * 16 + 16),
                     slice(patch % 4 * 16, patch % 4 * 16 + 16))
            pixels = filled[place].permute(1, 2, 0).flatten()
            known = valid[place].permute(1, 2, 0).flatten()
            target = pixels[known]
            if norm_pix and len(target):
                target = (target - target.mean()) / (target.var() + 1e-6).sqrt()
            mine += (pred[b, p][known] - target).square().tolist()
        total += sum(mine)
        assert losses[b].item() == pytest.approx(sum(mine) / len(mine) if mine else math.nan, rel=1e-4, nan_ok=True)
    loss = model.loss(without, samples)['loss']
    assert loss.item() == pytest.approx(total / pred.numel(), rel=1e-4)
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.requires_grad)
    nothing = model.loss(torch.full_like(imgs, torch.nan), samples)['loss']
    assert nothing == 0
    assert [sample.masked_mse.isfinite().item() for sample in model.predict(without, samples)] == [
        True, False, True, True]


class NoDim(torch.nn.Module):
    def __init__(self, target=None):
        super().__init__()


class WrongWidth(torch.nn.Module):
    def __init__(self, out_dim):
        super().__init__()
        self.out_dim = out_dim

    def forward(self, latents, mask):
        return latents[-1].new_zeros(len(mask.ids_pred), mask.ids_pred.size(1), self.out_dim + 1)


class NoMask(torch.nn.Module):
    def forward(self, imgs, grid, data_samples=None):
        return torch.ones(1, 16)


class ThreeScores(Masking):
    def scores(self, imgs, grid, data_samples=None):
        return imgs[:, :3, 0, 0]


class DimlessTarget(Target):
    def forward(self, imgs, mask):
        return self.patches(imgs, mask)


class Smaller(torch.nn.Module):
    def forward(self, imgs, data_samples=None):
        return imgs[:, :, ::2]


@pytest.mark.parametrize('part, contract, texts', [
    (dict(backbone=dict(type='mae_plugin.NoDim')), None, ['NoDim', 'img_size', 'num_prefix_tokens']),
    (dict(head=dict(type='mae_plugin.NoDim', target=dict(type='mae_plugin.PixelTarget'))), None,
     ['head', 'NoDim', 'ReconstructionHead']),
    (dict(head=dict(type='mae_plugin.PixelReconstructionHead', target=dict(type='mae_plugin.NoDim'))), None,
     ['head.target', 'NoDim', 'mae_plugin.models.Target']),
    (dict(head=dict(type='mae_plugin.PixelReconstructionHead', target=dict(type='mae_plugin.DimlessTarget'))), None,
     ['head.target', 'DimlessTarget', 'self.dim']),
    (dict(head=dict(type='mae_plugin.PixelReconstructionHead', target=None)), None,
     ['model.head.target=None', 'mae_plugin.PixelTarget']),
    (dict(masking=None), None, ['model.masking=None', 'mae_plugin.NoMasking']),
    (dict(neck=dict(decoder_depth=2)), None, ["model.neck={'decoder_depth': 2}", 'mae_plugin.MAEDecoder']),
    (dict(masking=dict(type='mae_plugin.ThreeScores')), 'loss', ['ThreeScores', r'\(4, 3\)', r'\(4, 16\)']),
    (dict(backbone=dict(type='mae_plugin.PlainViT', img_size=64, embed_dim=48, num_heads=3, out_type='cls_token')),
     'loss', ['cls_token', "'raw'"]),
    (dict(neck=dict(type='mae_plugin.WrongWidth')), 'loss', ['WrongWidth', r'\(4, 12, 769\)', 'PixelTarget',
                                                            r'\(4, 12, 768\)']),
    (dict(masking=dict(type='mae_plugin.NoMask')), 'loss', ['NoMask', 'Tensor', 'PatchMask']),
    (dict(corruption=dict(type='mae_plugin.Smaller')), 'loss', ['Smaller', r'\(4, 3, 32, 64\)', r'\(4, 3, 64, 64\)']),
    (dict(neck=dict(type='mae_plugin.MAEDecoder', num_prefix_tokens=2)), None, ['neck.num_prefix_tokens=2', '1']),
])
def test_a_part_with_another_contract_is_refused_by_both_names(part, contract, texts):
    for module in (NoDim, WrongWidth, NoMask, ThreeScores, DimlessTarget, Smaller):
        MODELS.register_module(module=module, force=True)
    with pytest.raises(ValueError, match='.*'.join(texts)):
        model = MODELS.build(tiny_mae_cfg() | part)
        data = model.data_preprocessor(batch())
        getattr(model, contract)(data['inputs'], data['data_samples'])


def test_a_decoder_says_how_many_tokens_it_wants(tiny_mae):
    mask = tiny_mae.masking(torch.zeros(2, 3, 64, 64), (4, 4))
    with pytest.raises(ValueError, match='gives 9 tokens.*wants 1 before the patches, then the 4 visible.* or all 16'):
        tiny_mae.neck((torch.zeros(2, 9, 48), ), mask)


@pytest.mark.parametrize('part, known, other', [
    ('masking', 'RandomMasking', 'PixelTarget'), ('neck', 'MAEDecoder', 'PlainViT'),
    ('backbone', 'PlainViT', 'MAEDecoder'), ('head', 'PixelReconstructionHead', 'PixelTarget'),
    ('head.target', 'PixelTarget', 'PlainViT')])
def test_an_unknown_name_lists_what_could_stand_there(part, known, other):
    cfg = tiny_mae_cfg()
    at = cfg
    for key in part.split('.'):
        at = at[key]
    at['type'] = 'mae_plugin.Unknown'
    with pytest.raises(KeyError, match=f"model.{part}.type='mae_plugin.Unknown'.*mae_plugin.{known}") as error:
        MODELS.build(cfg)
    assert other not in str(error.value)


@pytest.mark.parametrize('mean, std', [([1.], None), (None, [1.]), ([1., 2.], [1.]), ([1.], [0.])])
def test_one_mean_and_one_deviation_a_channel(mean, std):
    with pytest.raises(ValueError, match=r'data_preprocessor.mean=.* and std=.* need one number a channel'):
        MODELS.build(dict(type='mae_plugin.MAEDataPreprocessor', mean=mean, std=std))


@pytest.mark.parametrize('part, kind, called', [
    ('corruption', 'RandomMasking', r'\(imgs, grid, data_samples\): .* \(imgs, data_samples\)'),
    ('masking', 'PixelTarget', r'\(imgs, mask\): .* \(imgs, grid, data_samples\)'),
    ('masking', 'GaussianNoise', r'\(imgs, data_samples\): .* \(imgs, grid, data_samples\)'),
    ('neck', 'PlainViT', r'\(imgs, mask\): .* \(latents, mask\)')])
def test_a_part_in_the_place_of_another_is_refused(part, kind, called):
    cfg = dict(type=f'mae_plugin.{kind}') | (dict(std=1.) if kind == 'GaussianNoise' else {})
    with pytest.raises(ValueError, match=f'model.{part} is a {kind}, called as {called}; there are mae_plugin'):
        MODELS.build(tiny_mae_cfg() | {part: cfg})
