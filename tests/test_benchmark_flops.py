"""The count of operations and the rate they are held against."""

import numpy as np
import pytest
import torch
from conftest import tiny_mae_cfg
from torch import nn

from mae_plugin.benchmark.flops import forward_flops, training_flops
from mae_plugin.benchmark.matmul import matmul_rate
from mae_plugin.models import FileMasking
from mae_plugin.registry import MODELS


def build(decoder=None, mask_ratio=0.75, **backbone):
    cfg = tiny_mae_cfg(**backbone)
    cfg['neck'] |= decoder or {}
    cfg['masking']['mask_ratio'] = mask_ratio
    with torch.device('meta'):
        return MODELS.build(cfg)


AUTHORS_DECODER = dict(decoder_embed_dim=512, decoder_depth=8, decoder_num_heads=16)


@pytest.mark.parametrize('width, depth, heads, patch, forward, trained', [
    (768, 12, 12, 16, 19.56, 58.69), (1024, 24, 16, 16, 41.51, 124.53), (1280, 32, 16, 14, 97.12, 291.37)])
def test_the_authors_three_models(width, depth, heads, patch, forward, trained):
    """GFLOP of ViT-B/16, L/16 and H/14 at 224 pixels, counted by hand from the formula 24 n D^2 + 4 n^2 D a block."""
    model = build(AUTHORS_DECODER, img_size=224, patch_size=patch, embed_dim=width, depth=depth, num_heads=heads)
    parts = forward_flops(model)
    assert sum(parts.values()) / 1e9 == pytest.approx(forward, abs=.005)
    assert training_flops(model) / 1e9 == pytest.approx(trained, abs=.005)


def test_parts_of_vit_base():
    model = build(AUTHORS_DECODER, img_size=224, embed_dim=768, depth=12, num_heads=12)
    gflop = {part: value / 1e9 for part, value in forward_flops(model).items()}
    assert gflop == pytest.approx(
        dict(patch_embed=.231, encoder=8.493 + .092, decoder=.039 + 9.915 + .636, head=.155), abs=.002)


def test_a_rectangle_another_ratio_and_mlp():
    """4 x 2 patches of 8 x 16 pixels, half of them hidden: 5 tokens encoded, 9 decoded."""
    model = build(dict(mlp_ratio=2.), mask_ratio=.5, img_size=(32, 32), patch_size=(8, 16), in_chans=2, depth=1,
                  embed_dim=12)
    pixels, width, decoder = 8 * 16 * 2, 12, 32
    assert forward_flops(model) == dict(
        patch_embed=2 * 8 * pixels * width,
        encoder=24 * 5 * width**2 + 4 * 5**2 * width,
        decoder=2 * 5 * width * decoder + 2 * (16 * 9 * decoder**2 + 4 * 9**2 * decoder),
        head=2 * 9 * decoder * pixels)


@pytest.mark.parametrize('number', [1, 122, 143])
def test_a_mask_of_a_file_hides_what_it_says(tmp_path, number):
    np.save(tmp_path / 'mask.npy', np.arange(144).reshape(12, 12) < number)
    model = build(img_size=96, patch_size=8, depth=1)
    model.masking = FileMasking(str(tmp_path / 'mask.npy'))
    tokens = 1 + 144 - number
    assert forward_flops(model)['encoder'] == 24 * tokens * 48**2 + 4 * tokens**2 * 48


def test_other_models_are_not_counted():
    assert training_flops(nn.Linear(2, 2)) is None
    model = build()
    model.neck = nn.Identity()
    assert training_flops(model) is None


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_the_rate_of_a_product_is_positive(dtype):
    assert 0 < matmul_rate('cpu', dtype, size=64) < float('inf')


def test_the_product_leaves_the_random_numbers_of_a_run_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    matmul_rate('cpu', torch.float32, size=16, rounds=1)
    assert torch.equal(torch.get_rng_state(), before)
