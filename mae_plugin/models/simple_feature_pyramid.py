"""The neck that turns a plain transformer's one map into a pyramid."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..registry import MODELS
from .layers import LayerNorm2d


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
        half = in_channels // 2
        resize = {
            4: lambda: [nn.ConvTranspose2d(in_channels, half, 2, stride=2), LayerNorm2d(half), nn.GELU(),
                        nn.ConvTranspose2d(half, in_channels // 4, 2, stride=2)],
            2: lambda: [nn.ConvTranspose2d(in_channels, half, 2, stride=2)],
            1: lambda: [],
            .5: lambda: [nn.MaxPool2d(2)],
        }
        if scale not in resize:
            raise ValueError(f'scale {scale} is not one of {list(resize)}')
        channels = int(in_channels / max(scale, 1))
        return nn.Sequential(
            *resize[scale](),
            nn.Conv2d(channels, out_channels, 1, bias=False), LayerNorm2d(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False), LayerNorm2d(out_channels))

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Levels (B, out_channels, h * scale, w * scale) of the last of ``inputs``, (B, in_channels, h, w)."""
        levels = [level(inputs[-1]) for level in self.levels]
        if self.extra_level:
            levels.append(F.max_pool2d(levels[-1], kernel_size=1, stride=2))
        return tuple(levels)
