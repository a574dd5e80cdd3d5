"""The numbers of published implementations, in float64: loss, features and every gradient."""

import pytest
import torch
from conftest import tiny_mae_cfg

from mae_plugin.models import PatchMask, PlainViT, SimpleFeaturePyramid
from mae_plugin.registry import MODELS
from mae_plugin.weights.formats import to_plugin


def assert_grad_norms(parameters: dict, expected: dict) -> None:
    assert set(parameters) == set(expected)
    for name, parameter in parameters.items():
        torch.testing.assert_close(
            parameter.grad.norm(), expected[name], rtol=1e-8, atol=0, msg=lambda text, name=name: f'{name}: {text}')


@pytest.mark.parametrize('target', ['raw_pix', 'norm_pix'])
def test_authors_mae(golden, target):
    reference = golden('mae_64px_p16')
    cfg = tiny_mae_cfg()
    cfg['head']['target']['norm_pix'] = target == 'norm_pix'
    model = MODELS.build(cfg).double()
    own_names = {name.removeprefix('backbone.').removeprefix('neck.'): name for name in model.state_dict()}
    model.load_state_dict({own_names[name]: value for name, value in reference.under('param/').items()})
    mask = PatchMask.from_scores(reference['noise'], 4, (4, 4))
    model.masking.forward = lambda *args: mask

    assert torch.equal(mask.mask, reference['mask'])
    assert torch.equal(mask.ids_restore, reference['ids_restore'])
    latents = model.backbone(reference['images'], mask)
    torch.testing.assert_close(latents[-1], reference[f'{target}/latent'], rtol=0, atol=1e-10)
    pred = reference[f'{target}/pred'].gather(1, mask.ids_pred[..., None].expand(-1, -1, 768))
    torch.testing.assert_close(model.neck(latents, mask), pred, rtol=0, atol=1e-10)

    loss = model(reference['images'], mode='loss')['loss']
    torch.testing.assert_close(loss, reference[f'{target}/loss'], rtol=0, atol=1e-10)
    loss.backward()
    trained = {name: dict(model.named_parameters())[own] for name, own in own_names.items()}
    trained = {name: parameter for name, parameter in trained.items() if parameter.requires_grad}
    assert_grad_norms(trained, reference.under(f'{target}/grad_norm/'))


def test_vitdet(golden):
    reference = golden('vitdet_80x112')
    backbone = PlainViT(img_size=64, embed_dim=48, depth=4, num_heads=3, out_type='featmap', with_cls_token=False,
                        window_size=3, window_block_indexes=[0, 2], rel_pos=dict(type='DecomposedRelPos', size=6))
    model = torch.nn.ModuleDict(dict(backbone=backbone, neck=SimpleFeaturePyramid(48, 32))).double()
    model.load_state_dict(to_plugin(reference.under('param/'), 'detectron2')[0])

    features = backbone(reference['images'])
    torch.testing.assert_close(features[-1], reference['backbone/last_feat'], rtol=0, atol=1e-8)
    levels = model['neck'](features)
    assert len(levels) == 5
    for i, level in enumerate(levels):
        torch.testing.assert_close(level, reference[f'pyramid/p{i + 2}'], rtol=0, atol=1e-8)
    loss = sum(level.square().mean() for level in levels)
    torch.testing.assert_close(loss, reference['loss'], rtol=0, atol=1e-8)
    loss.backward()
    assert_grad_norms(dict(model.named_parameters()), to_plugin(reference.under('grad_norm/'), 'detectron2')[0])


def of_mmseg(state: dict) -> dict:
    """Under the names of our backbone."""
    return {name.removeprefix('backbone.'): value for name, value in to_plugin(state, 'mmseg')[0].items()}


def test_mmseg_mae_with_bias_tables(golden):
    reference = golden('mmseg_mae_64px')
    model = PlainViT(img_size=64, embed_dim=48, depth=4, num_heads=3, out_type='featmap', out_indices=(0, 1, 2, 3),
                     init_values=1., rel_pos=dict(type='RelPosBias')).double()
    model.load_state_dict(of_mmseg(reference.under('param/')))
    features = model(reference['images'])
    for i, feature in enumerate(features):
        torch.testing.assert_close(feature, reference[f'feature/{i}'], rtol=0, atol=1e-8)
    loss = sum(feature.square().mean() for feature in features)
    torch.testing.assert_close(loss, reference['loss'], rtol=0, atol=1e-8)
    loss.backward()
    assert_grad_norms(dict(model.named_parameters()), of_mmseg(reference.under('grad_norm/')))
