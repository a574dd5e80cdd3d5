import torch

from mae_plugin.models import MAEDecoder, PatchMask


def decode_as_the_paper_says(decoder, latent, mask):
    """Tokens sorted back into the image, all of them through every block, then only the hidden read."""
    x = decoder.decoder_embed(latent)
    B, K, C = x.shape[0], x.shape[1] - 1, x.shape[2]
    L = mask.ids_restore.size(1)
    tokens = torch.cat([x[:, 1:], decoder.mask_token.expand(B, L - K, C)], dim=1)
    tokens = torch.stack([tokens[b, mask.ids_restore[b]] for b in range(B)])
    x = torch.cat([x[:, :1], tokens], dim=1) + decoder.decoder_pos_embed
    for block in decoder.decoder_blocks:
        x = block(x)
    x = decoder.decoder_pred(decoder.decoder_norm(x))[:, 1:]
    return torch.stack([x[b, mask.ids_pred[b]] for b in range(B)])


def test_mask_order_and_few_queries_change_neither_output_nor_gradients():
    torch.manual_seed(0)
    for depth in (1, 3):
        decoder = MAEDecoder((64, 32), 16, embed_dim=24, out_dim=10, decoder_embed_dim=16, decoder_depth=depth,
                             decoder_num_heads=2).double()
        decoder.init_weights()
        latent = torch.randn(3, 1 + 3, 24, dtype=torch.float64, requires_grad=True)
        mask = PatchMask.from_scores(torch.rand(3, 8), 3, (4, 2))
        results = []
        for decode in (decode_as_the_paper_says, lambda decoder, latent, mask: decoder((latent, ), mask)):
            decoder.zero_grad()
            latent.grad = None
            pred = decode(decoder, latent, mask)
            pred.square().sum().backward()
            results.append([pred, latent.grad] + [p.grad for p in decoder.parameters() if p.requires_grad])
        for expected, actual in zip(*results, strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def test_positions_follow_another_grid():
    decoder = MAEDecoder(64, 16, embed_dim=24, out_dim=10, decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2)
    mask = PatchMask.from_scores(torch.rand(1, 24), 6, (6, 4))
    assert decoder((torch.randn(1, 7, 24), ), mask).shape == (1, 18, 10)
