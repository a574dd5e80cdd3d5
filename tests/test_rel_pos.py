import pytest
import torch

from mae_plugin.models import DecomposedRelPos, PlainViT, RelPosBias
from mae_plugin.models.layers import Attention
from mae_plugin.models.rel_pos import _relative_index, resample_side


def bias_of(rel_pos, q, grid):
    """What a relative position adds to the logits."""
    wide_q, wide_k, bias = rel_pos(q, torch.zeros_like(q), grid)
    return wide_q @ wide_k.transpose(-2, -1) / q.size(-1)**.5 if bias is None else bias


def test_decomposed_bias_by_hand():
    rel_pos = DecomposedRelPos(num_heads=1, head_dim=2, grid=(2, 3))
    torch.nn.init.normal_(rel_pos.rel_pos_h)
    torch.nn.init.normal_(rel_pos.rel_pos_w)
    q = torch.randn(1, 1, 6, 2)
    bias = bias_of(rel_pos, q, (2, 3))
    for query in range(6):
        for key in range(6):
            dy, dx = query // 3 - key // 3, query % 3 - key % 3
            expected = q[0, 0, query] @ (rel_pos.rel_pos_h[dy + 1] + rel_pos.rel_pos_w[dx + 2])
            torch.testing.assert_close(bias[0, 0, query, key], expected)


def test_bias_table_by_hand():
    rel_pos = RelPosBias(num_heads=2, head_dim=4, grid=(2, 3))
    torch.nn.init.normal_(rel_pos.table)
    bias = bias_of(rel_pos, torch.zeros(1, 2, 7, 4), (2, 3))[0]
    for query in range(6):
        for key in range(6):
            dy, dx = query // 3 - key // 3, query % 3 - key % 3
            torch.testing.assert_close(bias[:, 1 + query, 1 + key], rel_pos.table[(dy + 1) * 5 + dx + 2])
    assert torch.equal(bias[:, 0, 3], rel_pos.table[-3])
    assert torch.equal(bias[:, 3, 0], rel_pos.table[-2])
    assert torch.equal(bias[:, 0, 0], rel_pos.table[-1])


def test_bias_without_class_token_is_the_patches_part():
    with_token, without = (RelPosBias(2, 4, (2, 3), with_cls_token=value) for value in (True, False))
    torch.nn.init.normal_(with_token.table)
    with torch.no_grad():
        without.table.copy_(with_token.table[:-3])
    q = torch.zeros(1, 2, 6, 4)
    for grid in ((2, 3), (3, 4)):
        assert torch.equal(bias_of(without, q, grid), bias_of(with_token, q, grid)[..., 1:, 1:])


def test_tables_are_resized_to_the_grid():
    decomposed = DecomposedRelPos(1, 2, (2, 2))
    with torch.no_grad():
        decomposed.rel_pos_h.fill_(1.5)
    torch.testing.assert_close(bias_of(decomposed, torch.ones(1, 1, 12, 2), (4, 3)), torch.full((1, 1, 12, 12), 3.))
    bias = RelPosBias(1, 2, (2, 2))
    with torch.no_grad():
        bias.table.fill_(1.5)
    torch.testing.assert_close(bias_of(bias, torch.ones(1, 1, 13, 2), (4, 3)), torch.full((1, 1, 13, 13), 1.5))


def test_the_table_of_offsets_is_resized_bilinearly_by_hand():
    """From 3 offsets (a, b, c) to 5: the new places are -.2, .4, 1, 1.6 and 2.2 in the old ones."""
    bias = RelPosBias(1, 2, (1, 2), with_cls_token=False)
    with torch.no_grad():
        bias.table.copy_(torch.tensor([[1.], [3.], [8.]]))
    offsets = [1., 1.8, 3., 6., 8.]  # key minus query 2, 1, 0, -1, -2
    expected = torch.tensor([[offsets[2 + query - key] for key in range(3)] for query in range(3)])
    torch.testing.assert_close(bias_of(bias, torch.ones(1, 1, 3, 2), (1, 3))[0, 0], expected)


def test_a_fresh_relative_position_changes_nothing():
    imgs = torch.randn(2, 3, 48, 64)
    for rel_pos, with_cls in (('DecomposedRelPos', False), ('RelPosBias', True), ('RelPosBias', False)):
        outputs = []
        for cfg in (None, dict(type=rel_pos)):
            torch.manual_seed(0)
            model = PlainViT(64, 16, embed_dim=48, depth=2, num_heads=3, out_type='featmap', with_cls_token=with_cls,
                             rel_pos=cfg)
            model.init_weights()
            outputs.append(model(imgs)[0])
        torch.testing.assert_close(*outputs)


def attend_with_bias(attn, x, grid):
    """ViTDet's attention with the bias as a matrix of all pairs, in obvious code."""
    q, k, v = attn.qkv(x).unflatten(2, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
    tables = [resample_side(table, size)[_relative_index(size, x.device)].to(q.dtype)
              for table, size in zip((attn.rel_pos.rel_pos_h, attn.rel_pos.rel_pos_w), grid, strict=True)]
    bias = (torch.einsum('bnhwc,hkc->bnhwk', q.unflatten(2, grid), tables[0])[..., :, None]
            + torch.einsum('bnhwc,wkc->bnhwk', q.unflatten(2, grid), tables[1])[..., None, :]).flatten(2, 3).flatten(3)
    weights = (q @ k.transpose(-2, -1) * q.size(-1)**-.5 + bias).softmax(-1)
    return attn.proj((weights @ v).transpose(1, 2).flatten(2))


def decomposed_attention(grid):
    torch.manual_seed(0)
    attn = Attention(24, 2, DecomposedRelPos(2, 12, (4, 6))).double()
    for parameter in attn.parameters():
        torch.nn.init.normal_(parameter, std=.3)
    return attn, torch.randn(2, grid[0] * grid[1], 24, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize('grid', [(4, 6), (3, 5)])
@pytest.mark.parametrize('backend', ['default', 'timed', 'matmul', 'flash', 'math'])
def test_decomposed_attention_is_that_with_a_bias(backend, grid):
    attn, x = decomposed_attention(grid)
    attn.backend = backend
    found, expected = attn(x, grid), attend_with_bias(attn, x, grid)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    seed, inputs = torch.randn_like(found), [x, *attn.parameters()]
    torch.testing.assert_close(torch.autograd.grad(found, inputs, seed), torch.autograd.grad(expected, inputs, seed),
                               rtol=1e-10, atol=1e-12)


def test_decomposed_attention_in_bf16_is_as_close_as_with_a_bias():
    attn, x = decomposed_attention((4, 6))
    expected = attn(x, (4, 6))
    half, y = attn.bfloat16(), x.bfloat16()
    errors = [(form(y, (4, 6)).double() - expected).norm() / expected.norm()
              for form in (half, lambda *args: attend_with_bias(half, *args))]
    assert errors[0] < 1.2 * errors[1] < .03


@pytest.mark.parametrize('width, grid', [(12, (4, 6)), (12, (3, 5)), (64, (14, 14)), (80, (64, 64))])
def test_decomposed_attention_is_as_wide_as_fused_kernels_ask(width, grid):
    q = torch.randn(1, 1, grid[0] * grid[1], width)
    q, k, bias = DecomposedRelPos(1, width, grid)(q, q, grid)
    assert bias is None and q.shape == k.shape and q.size(-1) % 8 == 0 and q.size(-1) <= 256


def test_decomposed_attention_makes_no_matrix_of_all_pairs():
    attn, x, sizes = Attention(24, 2, DecomposedRelPos(2, 12, (16, 16))), torch.randn(1, 256, 24), []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        attn(x, (16, 16))
    assert max(sizes) < 2 * 256 * 256


def test_the_bias_is_one_for_the_whole_batch_with_keys_side_by_side():
    """On CUDA, fused kernels expand it over the batch without a copy, and refuse another layout."""
    bias = RelPosBias(2, 4, (2, 3))(torch.zeros(5, 2, 7, 4), torch.zeros(5, 2, 7, 4), (2, 3))[2]
    assert bias.shape == (1, 2, 7, 7) and bias.is_contiguous()
