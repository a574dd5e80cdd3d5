"""An encoder under a loss: a task without a library."""

from mmengine.model import BaseModel
from mmengine.registry import MODELS


@MODELS.register_module()
class TinyEncoder(BaseModel):
    """Drives the mean of the features to zero."""

    def __init__(self, backbone, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.backbone = MODELS.build(backbone)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=self.backbone(inputs.float())[0].square().mean())
