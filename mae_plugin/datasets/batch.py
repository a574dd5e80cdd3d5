"""Batches that a loader worker writes once, into memory that the training process reads."""

from collections.abc import Mapping
from typing import Any

from mmengine.dataset import default_collate
from torch import Tensor

from mae_plugin.registry import FUNCTIONS

from .encoded import EncodedCrop, EncodedImages, shared_empty


class Batch(list):
    """Samples of one batch. Where their ``inputs`` are alike, they are views of one tensor (``whole``).

    In a loader worker that tensor lies in shared memory from the start, so that a batch is in memory once and no
    picture is copied again.

    Args:
        size: how many samples will be appended.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.whole: Tensor | None = None

    def append(self, sample: Any) -> None:
        """Add a sample; a tensor in ``sample['inputs']`` moves into ``whole`` if it has the shape of the first."""
        inputs = sample.get('inputs') if isinstance(sample, Mapping) else None
        if not self and isinstance(inputs, Tensor):
            self.whole = shared_empty((self.size, *inputs.shape), inputs.dtype)
        if self.whole is not None:
            place = self.whole[len(self)]
            if isinstance(inputs, Tensor) and (inputs.shape, inputs.dtype) == (place.shape, place.dtype):
                sample['inputs'] = place.copy_(inputs)
            else:
                self.whole = None
        super().append(sample)


@FUNCTIONS.register_module()
def collate_batch(samples: list) -> Any:
    """MMEngine's ``default_collate``, except that the tensor of a :class:`Batch` is taken as it is.

    Images that are left to the GPU become :class:`~.encoded.EncodedImages`.
    """
    images = getattr(samples, 'whole', None)
    if images is None or len(samples) != len(images):
        inputs = [sample.get('inputs') if isinstance(sample, Mapping) else None for sample in samples]
        if not any(isinstance(image, EncodedCrop) for image in inputs):
            return default_collate(samples)
        images = EncodedImages(inputs)
    rest = default_collate([{key: value for key, value in sample.items() if key != 'inputs'} for sample in samples])
    return dict(inputs=images, **rest)
