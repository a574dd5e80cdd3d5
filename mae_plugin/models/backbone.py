"""What backbones of plain vision transformers share: the image and its grid, the outputs, the depth of a parameter."""

import re
from abc import abstractmethod
from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from .masking import PatchMask

OUT_TYPES = ('raw', 'cls_token', 'avg_featmap', 'featmap')
_EMBEDDINGS = re.compile(r'(cls_token|reg_token|pos_embed)$|(patch_embed|norm_pre)\.')


class ViTBackbone(BaseModule):
    """Tokens through ``blocks``, and what of them is returned. A subclass writes ``_embed``, and builds the parts.

    Before :meth:`_check_outputs` it sets ``img_size`` and ``patch_size`` (pairs), ``in_chans``, ``embed_dim``,
    ``depth``, ``out_type``, ``out_indices`` and ``num_prefix_tokens``; later ``blocks``, and ``norm`` or ``fc_norm`` as
    :meth:`forward` uses them.

    Attributes:
        added_by_tasks: Parameters that a task adds to the encoder, which no pretraining checkpoint holds.
        bf16: Whether the encoder computes in bfloat16 whatever the run does, and returns float32.
    """

    added_by_tasks = re.compile(r'fc_norm\.')
    bf16 = False

    def forward(self, imgs: Tensor, mask: PatchMask | None = None) -> tuple[Tensor, ...]:
        """Encode images (B, C, H, W), of any size the patch divides.

        With ``mask``, only the K kept patches: (B, T + K, C) for ``out_type='raw'``, T prefix tokens, then the patches
        in the mask's order.

        Raises:
            ValueError: If the image does not fit the model, or anything but tokens is asked of a masked image.
        """
        if not self.bf16:
            return self._encode(imgs, mask)
        with torch.autocast(imgs.device.type, torch.bfloat16):
            return tuple(x.float() for x in self._encode(imgs, mask))

    def _encode(self, imgs: Tensor, mask: PatchMask | None) -> tuple[Tensor, ...]:
        if imgs.size(1) != self.in_chans:
            raise ValueError(f'images have {imgs.size(1)} channels, backbone.in_chans is {self.in_chans}')
        if mask is not None and self.out_type != 'raw':
            raise ValueError(f"backbone.out_type='{self.out_type}' has no masked form: pretraining needs 'raw'")
        grid = self._grid_of(*imgs.shape[2:])
        x = self._embed(imgs, grid, mask)
        if self.out_type == 'featmap':
            return tuple(self._map(x, grid) for x in self._run(x, grid, self.out_indices))
        if self.out_type == 'raw':
            *earlier, x = self._run(x, grid, self.out_indices)
            return (*earlier, self.norm(x))
        x, = self._run(x, grid, (self.depth - 1, ))
        if self.out_type == 'avg_featmap':
            return (self.fc_norm(x[:, self.num_prefix_tokens:].mean(dim=1)), )
        return (self.norm(x)[:, 0], )

    @abstractmethod
    def _embed(self, imgs: Tensor, grid: tuple[int, int], mask: PatchMask | None) -> Tensor:
        """Tokens with their positions: prefix tokens, then all patches of ``imgs``, or those that ``mask`` keeps."""

    def _block(self, block: nn.Module, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """``x`` after ``block``."""
        return block(x, grid)

    def _run(self, x: Tensor, grid: tuple[int, int], taps: Sequence[int]) -> tuple[Tensor, ...]:
        """The tokens after each of the blocks ``taps``; later blocks do not run."""
        tokens = {}
        for i, block in enumerate(self.blocks[:max(taps) + 1]):
            x = self._block(block, x, grid)
            if i in taps:
                tokens[i] = x
        return tuple(tokens[i] for i in taps)

    def _map(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens as a map (B, C, h, w)."""
        return x[:, self.num_prefix_tokens:].transpose(1, 2).unflatten(2, grid).contiguous()

    def _grid_of(self, height: int, width: int) -> tuple[int, int]:
        if height % self.patch_size[0] or width % self.patch_size[1]:
            raise ValueError(
                f'an image of {height}x{width} cannot be cut into patches of '
                f'{self.patch_size[0]}x{self.patch_size[1]}: choose another size, or pad in the data '
                f'preprocessor (mmdet: pad_size_divisor, mmseg: size_divisor)')
        return height // self.patch_size[0], width // self.patch_size[1]

    def _block_indexes(self, name: str, indexes: Sequence[int]) -> tuple[int, ...]:
        wrong = [i for i in indexes if not -self.depth <= i < self.depth]
        if wrong:
            raise ValueError(f'{name} names the blocks {wrong}; the model has depth={self.depth}, '
                             f'so they run from 0 to {self.depth - 1}')
        return tuple(i % self.depth for i in indexes)

    def _check_outputs(self) -> None:
        if self.out_type not in OUT_TYPES:
            raise ValueError(f"out_type='{self.out_type}' is not one of {OUT_TYPES}")
        if self.out_type == 'raw' and self.out_indices[-1] != self.depth - 1:
            raise ValueError(f"out_type='raw' with out_indices={list(self.out_indices)}: the last of them has to be "
                             f'the last block, {self.depth - 1} or -1, whose tokens are normalised')

    def _freeze_unused_blocks(self) -> None:
        """A parameter that waits for a gradient in vain would stop DDP."""
        if self.out_type == 'featmap':
            self.blocks[max(self.out_indices) + 1:].requires_grad_(False)

    def _freeze(self, trainable_blocks: float) -> None:
        """Leave only the last ``trainable_blocks`` of the blocks that run trainable, and what is not pretrained."""
        last = max(self.out_indices) + 1 if self.out_type == 'featmap' else self.depth
        if trainable_blocks not in (0.5, *range(last + 1)):
            raise ValueError(f'trainable_blocks={trainable_blocks} is neither a whole number from 0 to {last}, the '
                             'number of blocks that run, nor 0.5, half a block')
        trained = [*self.blocks[last - int(trainable_blocks):last]]
        if trainable_blocks == 0.5:
            trained = [self.blocks[last - 1].norm2, self.blocks[last - 1].mlp]
        if trainable_blocks and self.out_type in ('raw', 'cls_token'):
            trained.append(self.norm)
        wanted = {parameter for part in trained for parameter in part.parameters()}
        for name, parameter in self.named_parameters():
            if parameter not in wanted and not self.added_by_tasks.match(name):
                parameter.requires_grad_(False)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning rates, and the number of depths.

        Embeddings are 0, block i is i + 1, everything else, convolutions between windows and other modules too, is the
        last, which learns at the full rate: it is not pretrained.
        """
        last = self.depth + 1
        if not param_name.startswith(prefix):
            return last, last + 1
        name = param_name[len(prefix):]
        if _EMBEDDINGS.match(name):
            return 0, last + 1
        if name.startswith('blocks.') and '.residual.' not in name:
            return int(name.split('.')[1]) + 1, last + 1
        return last, last + 1
