import pytest
import torch
from conftest import tiny_mae_cfg
from mmengine.structures import BaseDataElement

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
