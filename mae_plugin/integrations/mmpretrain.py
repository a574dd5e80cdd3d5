"""Parts made of mmpretrain's classes."""

from mmpretrain.models import ClsDataPreprocessor
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor

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
