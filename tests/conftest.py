"""Fixtures shared by the tests: tiny models, and the reference numbers of published implementations."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

from mae_plugin.registry import MODELS

torch.set_num_threads(1)  # models this small are slowed down by threads that wait for each other

GOLDEN = Path(__file__).parent / 'golden'


class Golden(dict):
    """A reference file: arrays as tensors by name, its sizes in ``meta``."""

    def __init__(self, name: str) -> None:
        with np.load(GOLDEN / f'{name}.npz') as arrays:
            super().__init__({key: torch.from_numpy(arrays[key]) for key in arrays.files if key != 'meta'})
            self.meta = json.loads(str(arrays['meta']).replace("'", '"'))

    def under(self, prefix: str) -> dict:
        """The entries below ``prefix``, without it."""
        return {key[len(prefix):]: value for key, value in self.items() if key.startswith(prefix)}


@pytest.fixture
def golden():
    """``golden(name)`` reads a reference file."""
    return Golden


@pytest.fixture(autouse=True)
def no_default_scope():
    """A Runner built in one test does not decide where the next one, or a fixture of its module, looks up its types."""
    DefaultScope._instance_dict.clear()
    yield
    DefaultScope._instance_dict.clear()


def tiny_mae_cfg(**changes) -> dict:
    """Config of a masked autoencoder of 64 px, patch 16, width 48; ``changes`` go to the backbone."""
    return dict(
        type='mae_plugin.MaskedAutoencoder',
        backbone=dict(type='mae_plugin.PlainViT', img_size=64, patch_size=16, embed_dim=48, depth=3, num_heads=3,
                      freeze_pos_embed=True) | changes,
        masking=dict(type='mae_plugin.RandomMasking', mask_ratio=.75),
        neck=dict(type='mae_plugin.MAEDecoder', decoder_embed_dim=32, decoder_depth=2, decoder_num_heads=4),
        head=dict(type='mae_plugin.PixelReconstructionHead', target=dict(type='mae_plugin.PixelTarget', norm_pix=True)),
        data_preprocessor=dict(type='mae_plugin.MAEDataPreprocessor', mean=[123.675, 116.28, 103.53],
                               std=[58.395, 57.12, 57.375]))


@pytest.fixture
def tiny_mae():
    """An initialised tiny masked autoencoder."""
    torch.manual_seed(0)
    model = MODELS.build(tiny_mae_cfg())
    model.init_weights()
    return model


def pytest_collection_modifyitems(items):
    """Skip what needs a GPU where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if 'gpu' in item.keywords:
                item.add_marker(pytest.mark.skip(reason='needs a CUDA GPU'))
