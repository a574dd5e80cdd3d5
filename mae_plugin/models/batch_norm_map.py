"""The neck of a linear probe of maps."""

from mmengine.model import BaseModule
from torch import Tensor, nn

from ..registry import MODELS


@MODELS.register_module()
class BatchNormMap(BaseModule):
    """Normalises the channels of the last map over the batch, without affine parameters: there is nothing to train.

    A linear layer on frozen features needs it, for the channels of MAE's encoder differ much in scale (He et al., 2022,
    appendix A.1, linear probing).

    Args:
        in_channels: Channels of the map.
    """

    def __init__(self, in_channels: int, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.norm = nn.BatchNorm2d(in_channels, affine=False)

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The last of ``inputs``, (B, in_channels, h, w), normalised."""
        return (self.norm(inputs[-1]), )
