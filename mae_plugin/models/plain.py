"""The loss of a masked autoencoder in obvious code, to hold the fast step against."""

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from .layers import Block, at_least_float32
from .mae_decoder import MAEDecoder
from .masked_autoencoder import MaskedAutoencoder
from .masking import PatchMask
from .pos_embed import resample_pos_embed
from .vit import PlainViT

PARTS = ('embed', 'attention', 'order', 'last_block', 'head')


def plain_loss(model: MaskedAutoencoder, imgs: Tensor, mask: PatchMask, parts: Collection[str] = PARTS) -> Tensor:
    """Loss of ``model`` as the paper words it (MAE, section 3), with the parameters of ``model`` and the same result.

    Args:
        model: A ``PlainViT``, a ``MAEDecoder`` and a head that averages squared errors.
        imgs: Normalised images (B, C, H, W).
        mask: What is hidden.
        parts: What to compute the obvious way; the rest is done as the model does it.

            - ``embed``: a convolution over the whole image, then the visible tokens are picked.
            - ``attention``: softmax(q k' / sqrt(d)) v by matrix products.
            - ``order``: the decoder's tokens are sorted back into image order; includes the next two.
            - ``last_block``: the last block of the decoder computes all tokens.
            - ``head``: the head predicts all tokens, and the loss is averaged with the mask as weight; includes
              ``last_block``.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: If a part has another name.
    """
    unknown = set(parts) - set(PARTS)
    if unknown:
        raise ValueError(f'parts names {sorted(unknown)}; there are {list(PARTS)}')
    parts = set(parts)
    if 'order' in parts:
        parts |= {'head'}
    if 'head' in parts:
        parts |= {'last_block'}
    latent = _encode(model.backbone, imgs, mask, parts)
    pred = _decode(model.neck, latent, mask, parts)
    if 'head' not in parts:
        return model.head.loss(pred, imgs, mask)['loss']
    # All patches as if all were predicted, in the order of the predictions, weighted by 1 where they are hidden.
    L = mask.ids_shuffle.size(1)
    order = torch.arange(L, device=imgs.device).expand_as(mask.ids_shuffle) if 'order' in parts else mask.ids_shuffle
    target = model.head.target(imgs, PatchMask(order, num_keep=0, grid=mask.grid))
    hidden = mask.mask.gather(1, order)
    loss_per_patch = (at_least_float32(pred) - target).square().mean(dim=-1)
    return (loss_per_patch * hidden).sum() / hidden.sum()


def _encode(vit: PlainViT, imgs: Tensor, mask: PatchMask, parts: Collection[str]) -> Tensor:
    """(B, 1 + K, C): class token and visible patches."""
    if 'embed' in parts:
        pos_embed = resample_pos_embed(vit.pos_embed, vit.grid, mask.grid)
        x = vit.patch_embed.proj(imgs).flatten(2).transpose(1, 2) + pos_embed[:, 1:]
        cls_token = (vit.cls_token + pos_embed[:, :1]).expand(x.size(0), -1, -1)
        x = torch.cat([cls_token, take_tokens(x, mask.ids_keep)], dim=1)
    else:
        x = vit._embed(imgs, mask.grid, mask)
    for block in vit.blocks:
        x = _plain_block(block, x) if 'attention' in parts else block(x)
    return vit.norm(x)


def _decode(decoder: MAEDecoder, latent: Tensor, mask: PatchMask, parts: Collection[str]) -> Tensor:
    """Predictions: (B, P, D) for the hidden patches, (B, L, D) for all with ``head``, in image order with ``order``."""
    x = decoder.decoder_embed(latent)
    num_pred = mask.ids_pred.size(1)
    x = torch.cat([x, decoder.mask_token.to(x.dtype).expand(x.size(0), num_pred, -1)], dim=1)
    if 'order' in parts:
        x = torch.cat([x[:, :1], take_tokens(x[:, 1:], mask.ids_restore)], dim=1)
        x = x + resample_pos_embed(decoder.decoder_pos_embed, decoder.grid, mask.grid)
    else:
        x = x + decoder._positions(mask)
    for i, block in enumerate(decoder.decoder_blocks):
        needed = num_pred if i == len(decoder.decoder_blocks) - 1 and 'last_block' not in parts else None
        x = _plain_block(block, x, needed) if 'attention' in parts else block(x, num_queries=needed)
    x = x[:, 1:] if 'head' in parts else x[:, -num_pred:]
    return decoder.decoder_pred(decoder.decoder_norm(x))


def _plain_block(block: Block, x: Tensor, num_queries: int | None = None) -> Tensor:
    """A block without windows and relative position."""
    attn, num_queries = block.attn, num_queries or x.size(1)
    qkv = attn.qkv(block.norm1(x)).unflatten(2, (3, attn.num_heads, -1))  # (B, N, 3, heads, d)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    q = q[:, :, -num_queries:]
    weights = F.softmax(at_least_float32(q @ k.transpose(-2, -1)) * q.size(-1)**-0.5, dim=-1)
    y = attn.proj((weights.to(v.dtype) @ v).transpose(1, 2).flatten(2))
    x = x[:, -num_queries:] + block.drop_path(block.ls1(y))
    return x + block.drop_path(block.ls2(block.mlp(block.norm2(x))))


def take_tokens(x: Tensor, ids: Tensor) -> Tensor:
    """Tokens ``ids`` (B, K) of ``x`` (B, N, C) or (1, N, C): (B, K, C)."""
    x = x.expand(ids.size(0), -1, -1)
    return x.gather(1, ids.unsqueeze(-1).expand(-1, -1, x.size(-1)))
