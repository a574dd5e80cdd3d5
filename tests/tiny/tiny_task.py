"""A model, a data set and a metric of a few numbers, to run the tools with in a second."""

import os

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch.utils.data import Dataset


@MODELS.register_module()
class TinyBackbone(torch.nn.Linear):
    """What stages of a chain hand on."""

    def __init__(self, width=4, init_cfg=None):
        super().__init__(4, width)
        self.init_cfg = init_cfg


@MODELS.register_module()
class TinyModel(BaseModel):
    """Linear regression in two layers; ``init_cfg.checkpoint`` of the backbone starts it from a file."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.head = torch.nn.Linear(self.backbone.out_features, 1)

    def init_weights(self):
        if self.backbone.init_cfg:
            from mae_plugin.weights.safe_load import load_file
            stored = load_file(self.backbone.init_cfg['checkpoint'])['state_dict']
            self.backbone.load_state_dict(
                {name.removeprefix('backbone.'): value for name, value in stored.items() if 'backbone.' in name})

    def forward(self, inputs, data_samples, mode='tensor'):
        pred = self.head(self.backbone(inputs)).squeeze(1)
        if mode == 'loss':
            return dict(loss=(pred - data_samples).square().mean(), other_loss=0.1 * pred.abs().mean())
        return [dict(pred=p, target=t) for p, t in zip(pred, data_samples, strict=True)]


@DATASETS.register_module()
class TinyDataset(Dataset):
    """Numbered samples; ``broken`` names one that raises, ``kill`` the rank that does."""

    def __init__(self, size=64, broken=None, kill_rank=None):
        self.inputs = torch.randn(size, 4, generator=torch.Generator().manual_seed(1))
        self.broken = broken
        self.kill_rank = kill_rank

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        if index == self.broken:
            raise ValueError(f'sample {index} is broken')
        if self.kill_rank is not None and os.environ.get('RANK') == str(self.kill_rank):
            raise ValueError(f'rank {self.kill_rank} has had enough')
        return dict(inputs=self.inputs[index], data_samples=self.inputs[index].sum())


@METRICS.register_module()
class TinyMetric(BaseMetric):
    """Mean squared error."""

    def process(self, data_batch, data_samples):
        self.results += [float((s['pred'] - s['target']).square()) for s in data_samples]

    def compute_metrics(self, results):
        return dict(mse=sum(results) / len(results))
