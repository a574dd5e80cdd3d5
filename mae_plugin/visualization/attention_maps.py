"""What the class token of an encoder looks at."""

import matplotlib
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mae_plugin.models import PlainViT
from mae_plugin.visualization.pictures import photo


def can_be_shown(backbone: nn.Module) -> bool:
    """Whether :func:`class_attention` serves ``backbone``: PlainViT with class token, without relative positions."""
    return isinstance(backbone, PlainViT) and backbone.with_cls_token and backbone.blocks[-1].attn.rel_pos is None


@torch.no_grad()
def class_attention(backbone: PlainViT, imgs: Tensor) -> Tensor:
    """Attention of the class token to each patch in the last block, of each head: (B, heads, h, w).

    Nothing is hidden. What is left to 1 in each head is the class token's attention to itself.

    Args:
        backbone: In eval mode.
        imgs: Normalised images (B, C, H, W).

    Raises:
        ValueError: The backbone has no class token, or relative positions, which are left out here.
    """
    if not can_be_shown(backbone):
        raise ValueError('attention maps are those of a class token of PlainViT, without relative positions')
    attention, tokens = backbone.blocks[-1].attn, []
    handle = attention.register_forward_pre_hook(lambda module, inputs: tokens.append(inputs[0]))
    try:
        backbone(imgs)
    finally:
        handle.remove()
    q, k, _ = attention.qkv(tokens[0].float()).unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    weights = (q[:, :, :1] @ k.transpose(2, 3) * q.size(-1)**-0.5).softmax(dim=-1)
    grid = [size // patch for size, patch in zip(imgs.shape[2:], backbone.patch_size, strict=True)]
    return weights[:, :, 0, 1:].unflatten(2, grid)


def draw_attention(image: np.ndarray, weights: Tensor) -> Image.Image:
    """A tile with weights (h, w) as a veil of colours, from the least to the most of them, over ``image`` in grey."""
    tile = photo(image)
    weights = (weights - weights.min()) / (weights.max() - weights.min()).clamp(min=1e-12)
    weights = np.asarray(Image.fromarray(weights.float().numpy()).resize(tile.size, Image.BICUBIC)).clip(0, 1)
    colours = matplotlib.colormaps['inferno'](weights)[..., :3] * 255
    grey = np.asarray(tile.convert('L'), np.float32)[..., None]
    return Image.fromarray((.35 * grey + .65 * colours).astype(np.uint8))
