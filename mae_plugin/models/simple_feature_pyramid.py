"""The necks that turn a plain transformer's maps, all of one size, into a pyramid."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..registry import MODELS
from .layers import LayerNorm2d


def _resize(scale: float, channels: Sequence[int], norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """Layers that make a map ``scale`` times as large, with ``channels`` before, after one and after two doublings.

    Raises:
        ValueError: If the scale is none of 4, 2, 1 and 0.5.
    """
    def double(i: int) -> nn.Module:
        return nn.ConvTranspose2d(channels[i], channels[i + 1], 2, stride=2)

    layers = {
        4: lambda: [double(0), norm(channels[1]), nn.GELU(), double(1)],
        2: lambda: [double(0)],
        1: lambda: [],
        .5: lambda: [nn.MaxPool2d(2)],
    }
    if scale not in layers:
        raise ValueError(f'scale {scale} is not one of {list(layers)}')
    return nn.Sequential(*layers[scale]())


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Simple feature pyramid of ViTDet (Li et al., 2022, section 3 and appendix A.2): all levels from the last map.

    Args:
        in_channels: Channels of the map.
        out_channels: Channels of each level.
        scales: Size of each level over that of the map, among 4, 2, 1 and 0.5.
        extra_level: Append a level of half the last one's size by max pooling, for mmdet's RPN.

    Raises:
        ValueError: If a scale is another.
    """

    def __init__(self, in_channels: int, out_channels: int = 256, scales: Sequence[float] = (4, 2, 1, .5),
                 extra_level: bool = True, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.extra_level = extra_level
        self.levels = nn.ModuleList(self._level(scale, in_channels, out_channels) for scale in scales)

    @staticmethod
    def _level(scale: float, in_channels: int, out_channels: int) -> nn.Sequential:
        channels = int(in_channels / max(scale, 1))
        return nn.Sequential(
            *_resize(scale, (in_channels, in_channels // 2, in_channels // 4), LayerNorm2d),
            nn.Conv2d(channels, out_channels, 1, bias=False), LayerNorm2d(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False), LayerNorm2d(out_channels))

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Levels (B, out_channels, h * scale, w * scale) of the last of ``inputs``, (B, in_channels, h, w)."""
        levels = [level(inputs[-1]) for level in self.levels]
        if self.extra_level:
            levels.append(F.max_pool2d(levels[-1], kernel_size=1, stride=2))
        return tuple(levels)


@MODELS.register_module()
class TapPyramid(BaseModule):
    """Maps of several blocks, each resized, for an ordinary FPN: MAE's own protocol (He et al., 2022, appendix A.3).

    The sizes and layers are those of hustvl/MIMDet, which reproduces that protocol: the width stays, and between the
    two doublings of the largest level is a GroupNorm of 32 groups.

    Args:
        in_channels: Channels of each map, and of each level.
        scales: Size of each level over that of its map, among 4, 2, 1 and 0.5.

    Raises:
        ValueError: If a scale is another.
    """

    def __init__(self, in_channels: int, scales: Sequence[float] = (4, 2, 1, .5), init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.levels = nn.ModuleList(
            _resize(scale, (in_channels, ) * 3, lambda channels: nn.GroupNorm(32, channels)) for scale in scales)

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """A level (B, in_channels, h * scale, w * scale) of each of ``inputs``, (B, in_channels, h, w)."""
        return tuple(level(x) for level, x in zip(self.levels, inputs, strict=True))
