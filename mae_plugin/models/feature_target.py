"""Features of a frozen network as target."""

from collections.abc import Sequence
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from timm.layers import to_2tuple
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from ..registry import MODELS
from ..utils.cli import nearest
from ..utils.hashing import file_sha256
from ..weights.checkpoint import tensors_in
from ..weights.safe_load import load_file
from .frozen import FrozenNetwork, own_seed, resize_map, warn_of_random_weights
from .masking import PatchMask
from .targets import Target


@MODELS.register_module()
class FeatureTarget(Target):
    """What a frozen model of timm sees at each patch (MaskFeat, Wei et al., 2022, section 3, "deep features").

    It sees the whole image, with its own mean and standard deviation; its map of features is resized to the grid of
    patches. See :class:`FrozenNetwork` for what becomes of it in checkpoints: nothing.

    Args:
        patch_size: Patch size in pixels; the algorithm passes the backbone's.
        teacher: Name of a model of timm with ``forward_intermediates``, as most have.
        img_size: Size of the image; the algorithm passes the backbone's.
        in_chans: Channels of the image; the algorithm passes the backbone's.
        pixel_mean: By which images are normalised; the algorithm passes the data preprocessor's.
        pixel_std: Likewise.
        pretrained: Let timm download the weights.
        checkpoint: Or a file with all of its weights, by timm's names; positions are resampled. With neither, weights
            are random, always the same ones.
        layer: Which of its intermediate features: of a ViT the block, of a network of stages the stage.
        teacher_size: Size of the image that it sees; None for the model's. With 196, a ViT of patches of 14 has the
            grid of one of 16 with 224.
        norm: Normalise the features of each patch to mean 0 and variance 1, as MaskFeat and data2vec do.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If timm has no such model or no weights for it, or it takes no such images or has no such layer.
    """

    def __init__(self, patch_size: int | Sequence[int], teacher: str, img_size: int | Sequence[int], in_chans: int = 3,
                 pixel_mean: Sequence[float] | None = None, pixel_std: Sequence[float] | None = None,
                 pretrained: bool = False, checkpoint: str | None = None, layer: int = -1,
                 teacher_size: int | Sequence[int] | None = None, norm: bool = True) -> None:
        super().__init__(patch_size, in_chans)
        self.layer, self.norm = layer, norm
        self.size = to_2tuple(img_size if teacher_size is None else teacher_size)
        network = _create(teacher, self.size, pretrained, checkpoint)
        channels = network.pretrained_cfg['input_size'][0]
        if channels != in_chans:
            raise ValueError(f'head.target.teacher={teacher!r} sees images of {channels} channels, the backbone has '
                             f'in_chans={in_chans}: take another teacher, or one of the other targets')
        if checkpoint is not None:
            self.files = dict(checkpoint=file_sha256(Path(checkpoint).expanduser()))
        elif not pretrained:
            warn_of_random_weights(f'head.target.teacher={teacher!r}', 'set pretrained=True, or checkpoint=FILE')
        self._teacher = FrozenNetwork(network, pixel_mean, pixel_std,
                                      *(network.pretrained_cfg[name] for name in ('mean', 'std')))
        try:
            device = next(network.parameters()).device  # 'meta' where only the parameters of the model are looked at
            self.dim = self._features(torch.zeros(1, in_chans, *self.size, device=device)).size(1)
        except Exception as error:  # each of timm's architectures has its own
            raise ValueError(f'head.target.teacher={teacher!r} gives no features of layer={layer} of images of '
                             f'{self.size[0]}x{self.size[1]}: {error}; set layer or teacher_size') from error

    def forward(self, imgs: Tensor, mask: PatchMask) -> Tensor:
        """See :meth:`Target.forward`."""
        features = resize_map(self._features(imgs).float(), mask.grid).flatten(2).transpose(1, 2)
        features = features.gather(1, mask.ids_pred.unsqueeze(-1).expand(-1, -1, self.dim))
        return F.layer_norm(features, (self.dim, )) if self.norm else features

    def _features(self, imgs: Tensor) -> Tensor:
        """(B, D, h, w), on the teacher's grid."""
        return self._teacher(imgs, self.size, lambda network, x: network.forward_intermediates(
            x, indices=[self.layer], stop_early=True, intermediates_only=True)[0])


def _create(name: str, size: tuple[int, int], pretrained: bool, checkpoint: str | None) -> nn.Module:
    """A model of timm for images of ``size``, where it has to know, to which timm fits the weights."""
    weights = dict(pretrained=pretrained)
    if checkpoint is not None:
        tensors, _ = tensors_in(load_file(checkpoint), checkpoint)
        weights = dict(pretrained=True, pretrained_cfg_overlay=dict(source='', state_dict=tensors))
    try:
        config = get_pretrained_cfg(name)
        sized = dict(img_size=size) if config is not None and config.fixed_input_size else {}
        with own_seed():
            network = timm.create_model(name, **weights, **sized)
    except Exception as error:  # no such model, size or weights, no network: timm and the hub have many classes
        near = [] if timm.is_model(name) else nearest(name.partition('.')[0], timm.list_models(), 5)
        of = f' of {checkpoint}' if checkpoint else ''
        raise ValueError(f'head.target.teacher={name!r}: timm makes no such model{of}: '
                         f'{" ".join(str(error).split())[:300]}'
                         + (f'; did you mean {" or ".join(near)}?' if near else '')) from error
    network.pretrained_cfg.pop('state_dict', None)  # a second copy
    if not hasattr(network, 'forward_intermediates'):
        raise ValueError(f'head.target.teacher={name!r} is a {type(network).__name__}, of which timm gives no '
                         'intermediate features (it has no forward_intermediates): take another model')
    return network
