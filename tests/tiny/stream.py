"""What of the training stream a run sees, written down by a hook."""

import hashlib
from pathlib import Path

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mae_plugin.models import RandomMasking

_MASKING = RandomMasking()


def digests(data_batch) -> list[str]:
    """SHA-256 of key, path, pixels and mask of each sample of a batch."""
    inputs, samples = torch.stack(list(data_batch['inputs'])), data_batch['data_samples']
    kept = _MASKING(inputs, (4, 4), samples).ids_keep
    return [hashlib.sha256(repr((*sample.sample_key, Path(sample.img_path).name, ids.tolist())).encode()
                           + pixels.numpy().tobytes()).hexdigest()
            for sample, pixels, ids in zip(samples, inputs, kept, strict=True)]


@HOOKS.register_module()
class StreamRecorder(Hook):
    """Keeps the digest of each sample of this process, and writes them in the work directory."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.decoded: list[bool] = []

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Keep."""
        self.seen += digests(data_batch)
        self.decoded += [sample.get('decoded') for sample in data_batch['data_samples']]

        (Path(runner.work_dir) / f'stream_{get_rank()}.txt').write_text('\n'.join(self.seen))
