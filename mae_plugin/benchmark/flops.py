"""Floating point operations of a masked autoencoder's training step, counted as the authors' implementation does them.

An MFU is always quoted on this count: then work that is skipped shows as speed, not as a lower utilisation. Only matrix
products count, two operations for a multiplication and an addition; softmax, norms, GELU and optimizer do not.
"""

import math
from collections.abc import Iterable

from torch import nn

from mae_plugin.models import MAEDecoder, MaskedAutoencoder, Masking, PlainViT
from mae_plugin.models.layers import Block


def forward_flops(model: nn.Module) -> dict[str, float] | None:
    """Operations of one image of ``backbone.img_size`` in a forward pass, by part.

    Counted is what the authors' code computes: it embeds all patches, and decoder and head run on all tokens.

    Returns:
        ``patch_embed``, ``encoder``, ``decoder`` (with the layer that embeds the latents) and ``head``; None for a
        model that is no :class:`MaskedAutoencoder` of a :class:`PlainViT` and a :class:`MAEDecoder`, or whose masking
        is no :class:`Masking`.
    """
    if not isinstance(model, MaskedAutoencoder) or not isinstance(model.masking, Masking):
        return None
    encoder, decoder = model.backbone, model.neck
    if type(encoder) is not PlainViT or type(decoder) is not MAEDecoder:  # their subclasses compute other things
        return None
    num_patches = encoder.grid[0] * encoder.grid[1]
    num_visible = 1 + model.masking.num_keep(encoder.grid)  # with the class token
    return dict(
        patch_embed=2. * num_patches * encoder.in_chans * math.prod(encoder.patch_size) * encoder.embed_dim,
        encoder=_blocks(encoder.blocks, num_visible),
        decoder=_linear(decoder.decoder_embed, num_visible) + _blocks(decoder.decoder_blocks, 1 + num_patches),
        head=_linear(decoder.decoder_pred, 1 + num_patches))


def training_flops(model: nn.Module) -> float | None:
    """Operations of one image in a training step, three forward passes; None where :func:`forward_flops` is."""
    parts = forward_flops(model)
    return None if parts is None else 3 * sum(parts.values())


def _linear(layer: nn.Linear, tokens: int) -> float:
    return 2. * tokens * layer.in_features * layer.out_features  # FSDP leaves a process but a share of the weight


def _blocks(blocks: Iterable[Block], tokens: int) -> float:
    """Linear layers, and the two products of attention: logits and weighted sum, each tokens x tokens x width."""
    return sum(
        sum(_linear(layer, tokens) for layer in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2))
        + 2 * 2. * tokens**2 * block.attn.proj.in_features for block in blocks)
