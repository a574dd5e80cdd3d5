"""Parts made of mmpretrain's classes."""

from collections.abc import Mapping, Sequence

import torch
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.models.selfsup import DALLEEncoder
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from ..models.frozen import FrozenNetwork, load_frozen, own_seed, warn_of_random_weights
from ..models.token_target import TokenTarget
from ..registry import MODELS


@MODELS.register_module()
class MixupDataPreprocessor(ClsDataPreprocessor):
    """mmpretrain's data preprocessor; in training, then timm's random erasing, mixup and CutMix, in the authors' order.

    Erasing comes after normalisation: what is erased becomes noise of the variance of the pixels. Mixup gives soft
    targets with label smoothing, as ``gt_score`` of the samples; the head's loss must take them as they are
    (``dict(type='CrossEntropyLoss', use_soft=True)``).

    Args:
        num_classes: Number of classes.
        erasing: Settings of timm's ``RandomErasing``, as ``dict(probability=0.25, mode='pixel')``; None for none.
        mixup: Settings of timm's ``Mixup``, as ``dict(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1)``.
        **kwargs: Those of ``ClsDataPreprocessor``: ``mean``, ``std``, ``to_rgb`` ...

    Raises:
        ValueError: Batch augments of mmpretrain are asked for too, or a training batch is of odd size, which timm's
            mixup cannot pair.
    """

    def __init__(self, num_classes: int, mixup: dict, erasing: dict | None = None, **kwargs) -> None:
        if kwargs.get('batch_augments'):  # ImageClassifier hands over its train_cfg
            raise ValueError('MixupDataPreprocessor mixes by itself: remove model.train_cfg.augments, or take the type '
                             "'ClsDataPreprocessor'")
        super().__init__(num_classes=num_classes, to_onehot=True, **kwargs)
        self.erasing = RandomErasing(**erasing) if erasing else None
        self.mixup = Mixup(**mixup, num_classes=num_classes)
        self.batch_augments = self._augment

    def _augment(self, imgs: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Erase and mix images (B, 3, H, W), normalised; one-hot labels (B, classes) become soft targets."""
        if len(imgs) % 2:
            raise ValueError(f'mixup pairs the images of a batch, but train_dataloader.batch_size is {len(imgs)}: '
                             'make it even')
        if self.erasing is not None:
            self.erasing.device = imgs.device
            imgs = self.erasing(imgs)
        return self.mixup(imgs, scores.argmax(dim=1))


@MODELS.register_module()
class DALLETarget(TokenTarget):
    """Tokens of DALL-E's discrete VAE (Ramesh et al., 2021), as in BEiT (Bao et al., 2022) and MAE (Table 1d).

    The encoder makes one token of 8x8 pixels: it sees the image with 8 pixels for each patch, 112x112 for a grid of
    14x14. Half precision on a GPU is its own; autocast does not reach it.

    Args:
        patch_size: Patch size in pixels; the algorithm passes the backbone's.
        in_chans: Channels of the image; the algorithm passes the backbone's.
        pixel_mean: By which images are normalised; the algorithm passes the data preprocessor's.
        pixel_std: Likewise.
        checkpoint: File of the encoder's weights, by mmpretrain's names; without one they are random, always the same.
        encoder: Settings of mmpretrain's ``DALLEEncoder``, as ``dict(n_hid=16, vocab_size=64)``; empty for the
            published one, of 8192 tokens.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not fit the encoder.
    """

    _STRIDE = 8

    def __init__(self, patch_size: int | Sequence[int], in_chans: int = 3, pixel_mean: Sequence[float] | None = None,
                 pixel_std: Sequence[float] | None = None, checkpoint: str | None = None,
                 encoder: Mapping | None = None) -> None:
        super().__init__(patch_size, in_chans)
        with own_seed():
            network = DALLEEncoder(**{'input_channels': in_chans, **(encoder or {})})
        if checkpoint is None:
            warn_of_random_weights('head.target, a DALLETarget,', 'set checkpoint=FILE')
        else:
            self.files = load_frozen(network, checkpoint)
        self.dim = network.blocks.output.conv.w.size(0)
        # As it was trained: values from 0 to 1 are mapped to 0.1 to 0.9, where the logit-Laplace distribution is fine.
        self._encoder = FrozenNetwork(network, pixel_mean, pixel_std, mean=[-.125], std=[1.25])

    def tokens(self, imgs: Tensor, grid: tuple[int, int]) -> Tensor:
        """See :meth:`TokenTarget.tokens`."""
        with torch.autocast(imgs.device.type, enabled=False):
            logits = self._encoder(imgs, tuple(self._STRIDE * side for side in grid), lambda network, x: network(x))
        return logits.argmax(dim=1).flatten(1)
