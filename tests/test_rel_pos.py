import torch

from mae_plugin.models import DecomposedRelPos, PlainViT, RelPosBias


def test_decomposed_bias_by_hand():
    rel_pos = DecomposedRelPos(num_heads=1, head_dim=2, grid=(2, 3))
    torch.nn.init.normal_(rel_pos.rel_pos_h)
    torch.nn.init.normal_(rel_pos.rel_pos_w)
    q = torch.randn(1, 1, 6, 2)
    bias = rel_pos(q, (2, 3))
    for query in range(6):
        for key in range(6):
            dy, dx = query // 3 - key // 3, query % 3 - key % 3
            expected = q[0, 0, query] @ (rel_pos.rel_pos_h[dy + 1] + rel_pos.rel_pos_w[dx + 2])
            torch.testing.assert_close(bias[0, 0, query, key], expected)


def test_bias_table_by_hand():
    rel_pos = RelPosBias(num_heads=2, head_dim=4, grid=(2, 3))
    torch.nn.init.normal_(rel_pos.table)
    bias = rel_pos(torch.zeros(1, 2, 7, 4), (2, 3))[0]
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
        assert torch.equal(without(q, grid), with_token(q, grid)[..., 1:, 1:])


def test_tables_are_resized_to_the_grid():
    decomposed = DecomposedRelPos(1, 2, (2, 2))
    with torch.no_grad():
        decomposed.rel_pos_h.fill_(1.5)
    torch.testing.assert_close(decomposed(torch.ones(1, 1, 12, 2), (4, 3)), torch.full((1, 1, 12, 12), 3.))
    bias = RelPosBias(1, 2, (2, 2))
    with torch.no_grad():
        bias.table.fill_(1.5)
    torch.testing.assert_close(bias(torch.ones(1, 1, 13, 2), (4, 3)), torch.full((1, 1, 13, 13), 1.5))


def test_the_table_of_offsets_is_resized_bilinearly_by_hand():
    """From 3 offsets (a, b, c) to 5: the new places are -.2, .4, 1, 1.6 and 2.2 in the old ones."""
    bias = RelPosBias(1, 2, (1, 2), with_cls_token=False)
    with torch.no_grad():
        bias.table.copy_(torch.tensor([[1.], [3.], [8.]]))
    offsets = [1., 1.8, 3., 6., 8.]  # key minus query 2, 1, 0, -1, -2
    expected = torch.tensor([[offsets[2 + query - key] for key in range(3)] for query in range(3)])
    torch.testing.assert_close(bias(torch.ones(1, 1, 3, 2), (1, 3))[0, 0], expected)


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
