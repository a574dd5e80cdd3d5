"""The transformer block, with the parameter names of timm and of the authors, and the layers it is made of."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from timm.layers import DropPath, LayerScale, Mlp
from torch import Tensor, nn

from ..registry import MODELS
from .attention import attend
from .window import window_partition, window_unpartition

LAYER_NORM_EPS = 1e-6  # of MAE and ViTDet; torch's default is 1e-5


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` in float32, or as it is in float64: where half precision would cost accuracy."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@MODELS.register_module()
class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of a map (B, C, H, W); ``norm_cfg=dict(type='mae_plugin.LayerNorm2d')`` in mmdet.

    The result is contiguous: mmcv's RoIAlign takes any memory for that, without a word (open-mmlab/mmcv#2203).

    Args:
        channels: C.
        eps: Added to the variance. mmcv passes 1e-5 unless a config names another.
    """

    def __init__(self, channels: int, eps: float = LAYER_NORM_EPS) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise every position over its channels."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()


def residual_stream(x: Tensor, bf16: bool) -> Tensor:
    """Tokens as the blocks add to them: in float32, or with ``bf16`` in bfloat16 where autocast is on."""
    return x.bfloat16() if bf16 and torch.is_autocast_enabled(x.device.type) else x


class PatchEmbed(nn.Module):
    """Linear projection of patches. The weight keeps the shape and the name of timm's convolution, ``proj``.

    Args:
        patch_size: (height, width) of a patch in pixels.
        in_chans: Channels of the image.
        embed_dim: Width of a token.
    """

    def __init__(self, patch_size: tuple[int, int], in_chans: int, embed_dim: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, imgs: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Embed all patches of (B, C, H, W), or only those of ``ids_keep`` (B, K): (B, L or K, embed_dim)."""
        # The hidden patches are dropped as pixels, before they cost a copy or a multiplication.
        patches = patchify(imgs, self.patch_size, ids_keep, channels_first=True)
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


def patchify(imgs: Tensor, patch_size: tuple[int, int], ids: Tensor | None = None,
             channels_first: bool = False) -> Tensor:
    """Cut images (B, C, H, W) into patches (B, L, D), row by row, or only into the patches ``ids`` (B, K): (B, K, D).

    D runs over (row, column, channel), the order of MAE's targets, or over (channel, row, column), the order of a
    convolution's weight, with ``channels_first``.
    """
    (p, q), (B, C, H, W) = patch_size, imgs.shape
    h, w = H // p, W // q
    x = imgs.reshape(B, C, h, p, w, q)
    x = x.permute(0, 2, 4, 1, 3, 5) if channels_first else x.permute(0, 2, 4, 3, 5, 1)
    if ids is None:
        return x.reshape(B, h * w, p * q * C)
    return x[torch.arange(B, device=imgs.device)[:, None], ids // w, ids % w].flatten(2)


def unpatchify(patches: Tensor, patch_size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Undo :func:`patchify` in its (row, column, channel) order: (B, h * w, p * q * C) to (B, C, h * p, w * q)."""
    (p, q), (h, w) = patch_size, grid
    x = patches.reshape(patches.size(0), h, w, p, q, -1).permute(0, 5, 1, 3, 2, 4)
    return x.reshape(x.size(0), x.size(1), h * p, w * q)


class Attention(nn.Module):
    """Multi-head attention through torch's fused kernels, of tokens to themselves or to others.

    Args:
        dim: Width of a token.
        num_heads: Heads; must divide ``dim``.
        rel_pos: Relative position, see :mod:`~mae_plugin.models.rel_pos`, or None.

    Attributes:
        backend: Which kernel computes it, see :func:`~mae_plugin.models.attention.attend`.

    Raises:
        ValueError: If ``num_heads`` does not divide ``dim``.
    """

    backend = 'default'

    def __init__(self, dim: int, num_heads: int, rel_pos: nn.Module | None = None) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f'a width of {dim} cannot be split into {num_heads} heads')
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos = rel_pos

    def forward(self, x: Tensor, grid: tuple[int, int] | None = None, num_queries: int | None = None,
                window_size: int = 0, context: Tensor | None = None) -> Tensor:
        """Attend over ``x`` (B, N, dim).

        Args:
            x: Tokens (B, N, dim).
            grid: (h, w) of the patches among them; only a relative position and windows look at it.
            num_queries: Let only the last that many tokens ask; all of them answer.
            window_size: Side of the windows attention is confined to, in patches; 0 for all tokens.
            context: Cross-attention: the tokens (B, M, dim) that answer instead of ``x``.

        Returns:
            (B, N or num_queries, dim).
        """
        if window_size:
            return self._attend_in_windows(x, grid, (window_size, window_size))
        num_queries = num_queries or x.size(1)
        if context is None and num_queries == x.size(1):
            q, k, v = self._heads(self.qkv(x), 3)
        else:
            dim = x.size(-1)
            weight, bias = self.qkv.weight, self.qkv.bias
            q, = self._heads(F.linear(x[:, -num_queries:], weight[:dim], bias[:dim]), 1)
            k, v = self._heads(F.linear(x if context is None else context, weight[dim:], bias[dim:]), 2)
        return self.proj(self._attend(q, k, v, grid))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int] | None) -> Tensor:
        """Heads (B, heads, N, head_dim) to (B, N, dim)."""
        scale = q.size(-1)**-0.5  # before a relative position makes the queries wider
        q, k, bias = (q, k, None) if self.rel_pos is None else self.rel_pos(q, k, grid)
        return attend(q, k, v, bias, self.backend, scale).transpose(1, 2).flatten(2)

    def _attend_in_windows(self, x: Tensor, grid: tuple[int, int], window: tuple[int, int]) -> Tensor:
        """Attention within windows; the zeros that fill up a window take part in it as tokens, as in ViTDet.

        They cost no projection: windows that need filling are cut from queries, keys and values, and filled with zeros.
        A zero token's key and value would be the biases; but that of the keys adds the same number to all logits of a
        query, which no softmax sees, and that of the values passes through the average and is added after it.
        """
        if not (grid[0] % window[0] or grid[1] % window[1]):
            windows, _ = window_partition(x.unflatten(1, grid), window[0])
            windows = self(windows.flatten(1, 2), window).unflatten(1, window)
            return window_unpartition(windows, grid, grid).flatten(1, 2)
        q_bias, _, v_bias = self.qkv.bias.chunk(3)
        qkv = F.linear(x, self.qkv.weight, F.pad(q_bias, (0, 2 * len(q_bias))))
        windows, padded = window_partition(qkv.unflatten(1, grid), window[0])
        windows = self._attend(*self._heads(windows.flatten(1, 2), 3), window).unflatten(1, window)
        x = window_unpartition(windows, padded, grid).flatten(1, 2)
        return self.proj(x + v_bias.to(x.dtype))

    def _heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(B, N, parts * dim) to ``parts`` times (B, heads, N, head_dim)."""
        # Taken apart before the axes are swapped: the backward pass then puts the gradients together in place.
        return tuple(part.transpose(1, 2) for part in x.unflatten(2, (parts, self.num_heads, -1)).unbind(2))


def draw_kept(batch: int, keep: float, device: torch.device) -> Tensor:
    """Indices of the samples whose branch is kept, each with probability ``keep``.

    They are drawn by the generator of the host, so that it knows their number without waiting for the device.
    """
    kept = (torch.rand(batch, device='cpu') < keep).nonzero().flatten()
    return kept.pin_memory().to(device, non_blocking=True) if device.type == 'cuda' else kept.to(device)


class ResidualConv(nn.Module):
    """Residual bottleneck of convolutions between windows (ViTDet, Li et al., 2022, section 3): 1x1, 3x3, 1x1.

    Each is followed by :class:`LayerNorm2d`, the first two by GELU. The last norm's weight begins at zero, so that the
    block begins as the identity. Parameter names are detectron2's.

    Args:
        dim: Channels of the map; half of them in the bottleneck.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim // 2, 1, bias=False)
        self.norm1 = LayerNorm2d(dim // 2)
        self.conv2 = nn.Conv2d(dim // 2, dim // 2, 3, padding=1, bias=False)
        self.norm2 = LayerNorm2d(dim // 2)
        self.conv3 = nn.Conv2d(dim // 2, dim, 1, bias=False)
        self.norm3 = LayerNorm2d(dim)

    def init_weights(self) -> None:
        """Convolutions as He et al. (2015) by fan-out; the last norm's weight zero."""
        for conv in (self.conv1, self.conv2, self.conv3):
            nn.init.kaiming_normal_(conv.weight, mode='fan_out', nonlinearity='relu')
        nn.init.zeros_(self.norm3.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, h, w)."""
        y = F.gelu(self.norm1(self.conv1(x)))
        y = F.gelu(self.norm2(self.conv2(y)))
        return x + self.norm3(self.conv3(y))


class Block(nn.Module):
    """Pre-norm transformer block: attention and MLP, each with a residual connection.

    Args:
        dim: Width of a token.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of the MLP over ``dim``.
        drop_path: Probability of dropping a branch for a sample.
        init_values: Start value of the layer scale (``ls1``, ``ls2``); None leaves it out.
        window_size: Side of the windows attention is confined to, in patches; 0 for all tokens.
        rel_pos: Relative position module of the attention, or None.
        residual_conv: Append a :class:`ResidualConv`, ``residual``.
        with_cp: Activation checkpointing: keep only the block's input, and compute the rest again in the backward pass.
        drop_path_skips: Do not compute the branches that are dropped.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4., drop_path: float = 0.,
                 init_values: float | None = None, window_size: int = 0, rel_pos: nn.Module | None = None,
                 residual_conv: bool = False, with_cp: bool = False, drop_path_skips: bool = False) -> None:
        super().__init__()
        self.window_size, self.with_cp, self.drop_path_skips = window_size, with_cp, drop_path_skips
        self.norm1 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attn = Attention(dim, num_heads, rel_pos)
        self.norm2 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.ls1 = nn.Identity() if init_values is None else LayerScale(dim, init_values)
        self.ls2 = nn.Identity() if init_values is None else LayerScale(dim, init_values)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.residual = ResidualConv(dim) if residual_conv else None

    def forward(self, x: Tensor, grid: tuple[int, int] | None = None, num_queries: int | None = None) -> Tensor:
        """Tokens (B, N, dim) to (B, N, dim), or to the last ``num_queries`` of them; see :class:`Attention`."""
        return self._checkpointed(x, grid, num_queries)

    def _checkpointed(self, *args) -> Tensor:
        if self.with_cp and self.training and torch.is_grad_enabled():
            # Only drop path draws. A CUDA graph cannot record that the state of a generator is kept.
            return torch.utils.checkpoint.checkpoint(self._forward, *args, use_reentrant=False,
                                                     preserve_rng_state=isinstance(self.drop_path, DropPath))
        return self._forward(*args)

    def _forward(self, x: Tensor, grid: tuple[int, int] | None, num_queries: int | None) -> Tensor:
        x = self._add(x, lambda x: self.ls1(self.attn(self.norm1(x), grid, num_queries, self.window_size)))
        x = self._add(x, lambda x: self.ls2(self.mlp(self.norm2(x))))
        if self.residual is not None:
            x = self.residual(x.transpose(1, 2).unflatten(2, grid)).flatten(2).transpose(1, 2)
        return x

    def _add(self, x: Tensor, branch: Callable[[Tensor], Tensor]) -> Tensor:
        """``x + branch(x)``, for as many of the last tokens as the branch returns, with drop path."""
        skips = self._skips(x.device)
        if skips:
            keep = 1 - self.drop_path.drop_prob
            kept, scale = draw_kept(len(x), keep, x.device), 1 / keep
            if not len(kept):  # one sample, times zero: every parameter has a gradient, which DDP waits for
                kept, scale = torch.zeros(1, dtype=torch.long, device=x.device), 0.
        y = branch(x.index_select(0, kept) if skips else x)
        if y.size(1) < x.size(1):  # else a slice of all tokens would cost its backward pass, zeros and a copy
            x = x[:, -y.size(1):]
        return x.index_add(0, kept, y.to(x.dtype), alpha=scale) if skips else x + self.drop_path(y)

    def _skips(self, device: torch.device) -> bool:
        """Whether dropped branches are left out; a compiler and a CUDA graph need the same shapes each time."""
        return (self.drop_path_skips and self.training and isinstance(self.drop_path, DropPath)
                and not torch.compiler.is_compiling()
                and not (device.type == 'cuda' and torch.cuda.is_current_stream_capturing()))


def init_transformer(module: nn.Module) -> None:
    """Initialise as MAE does: linear layers xavier-uniform with zero bias (the fused qkv as one matrix).

    LayerNorm keeps 1 and 0, a :class:`PatchEmbed` is treated as the linear layer it is, but keeps its bias.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, PatchEmbed):
            nn.init.xavier_uniform_(part.proj.weight.flatten(1))
