"""Masked autoencoder (He et al., CVPR 2022) as one MMEngine model made of swappable parts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from mmengine.model import BaseModel
from mmengine.model.weight_init import initialize
from mmengine.structures import BaseDataElement
from timm.layers import to_2tuple
from torch import Tensor, nn

from ..registry import MODELS
from .assembly import build_head, build_part, facts_of
from .layers import patchify, unpatchify
from .masking import PatchMask, Samples


@dataclass(frozen=True)
class Reconstruction:
    """What a masked autoencoder makes of images, in pixel values, not clipped: each (B, C, H, W).

    What is not shown, and pixels without data, have the mean of their channel, a grey.

    Attributes:
        original: The images.
        seen: What the encoder saw of them: corrupted, where there is a corruption, and hidden patches grey.
        prediction: The predicted patches alone; None where the target cannot be turned back into pixels. The brightness
            and contrast of normalised ones are those of the original.
        pasted: ``seen``, and the predicted patches in their places; None likewise.
        psnr: (B,) ``10 log10(data_range^2 / mse)`` in dB over predicted pixels with data, NaN if none has; None
            likewise.
        valid: (B, C, H, W) bool, False where there is no data; None where all of it counts.
    """

    original: Tensor
    seen: Tensor
    prediction: Tensor | None
    pasted: Tensor | None
    psnr: Tensor | None
    valid: Tensor | None


@MODELS.register_module()
class MaskedAutoencoder(BaseModel):
    """Hide most of an image, encode the rest, predict what was hidden.

    ``img_size``, ``patch_size``, ``in_chans``, ``embed_dim`` and ``num_prefix_tokens`` are those of the backbone. The
    parts whose signature asks for one of them get it from there; the decoder gets ``out_dim`` from the head's target
    and ``num_taps`` from the number of the backbone's ``out_indices``, and any part ``pixel_mean`` and ``pixel_std``,
    the normalisation of the data preprocessor.

    Where the data preprocessor has ``nodata=True``, NaN in its images means that there is no data: the backbone sees
    zeros there, the mean of each channel, and neither targets nor loss look at them.

    Args:
        backbone: Encoder, e.g. ``dict(type='mae_plugin.PlainViT', ...)``.
        masking: Which patches are hidden, e.g. ``dict(type='mae_plugin.RandomMasking', mask_ratio=0.75)``.
        neck: Decoder, e.g. ``dict(type='mae_plugin.MAEDecoder')``.
        head: Target and loss, e.g. ``dict(type='mae_plugin.PixelReconstructionHead', target=...)``.
        corruption: What is done to the images that the backbone sees, while the target is made of the clean ones, e.g.
            ``dict(type='mae_plugin.GaussianNoise', std=0.5)``; a module ``(imgs, data_samples) -> imgs``.
        data_preprocessor: Usually ``dict(type='mae_plugin.MAEDataPreprocessor', mean=..., std=...)``.
        init_cfg: ``dict(type='mae_plugin.MAEPretrained', checkpoint=...)`` goes on from encoder and decoder of a file.

    Raises:
        ValueError: If a part is given a size that differs from the backbone's, or does not keep to its contract.
    """

    def __init__(self,
                 backbone: dict,
                 masking: dict,
                 neck: dict,
                 head: dict,
                 corruption: dict | None = None,
                 data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = build_part(backbone, 'backbone', {})
        facts = facts_of(self.backbone, self.data_preprocessor, backbone)
        self.masking = build_part(masking, 'masking', facts)
        self.head = build_head(head, facts)
        facts_of_decoder = dict(facts, out_dim=self.head.target.dim)
        if hasattr(self.backbone, 'out_indices'):
            facts_of_decoder['num_taps'] = len(self.backbone.out_indices)
        self.neck = build_part(neck, 'neck', facts_of_decoder)
        self.corruption = build_part(corruption, 'corruption', facts)

    def init_weights(self) -> None:
        """Initialise the parts, then apply ``init_cfg``, which thus has the last word."""
        for part in self.children():
            if hasattr(part, 'init_weights'):
                part.init_weights()
        if self.init_cfg:
            initialize(self, self.init_cfg)
        self._is_init = True

    def forward(self, inputs: Tensor, data_samples: Sequence | None = None, mode: str = 'tensor'):
        """Run the model on normalised images (B, C, H, W).

        Args:
            inputs: Images, normalised by the data preprocessor.
            data_samples: One for each image; a ``sample_key`` in them fixes the mask.
            mode: ``loss`` gives the dict of losses, ``predict`` a data sample for each image with the masked loss and
                error, ``tensor`` the tokens (B, 1 + L, C) of the whole image, nothing hidden.

        Raises:
            ValueError: If ``mode`` is another.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode == 'tensor':
            return self.backbone(inputs.nan_to_num(0) if self._nodata else inputs)[-1]
        raise ValueError(f"mode='{mode}' is not one of 'loss', 'predict', 'tensor'")

    def loss(self, imgs: Tensor, data_samples: Sequence | None = None) -> dict:
        """Losses of a batch of normalised images (B, C, H, W).

        Raises:
            ValueError: If they are not of ``backbone.img_size``, for which the positions of the checkpoint are made.
        """
        expected = to_2tuple(self.backbone.img_size)
        if tuple(imgs.shape[2:]) != expected:
            raise ValueError(f'images are {imgs.size(2)}x{imgs.size(3)}, but model.backbone.img_size is '
                             f'{expected[0]}x{expected[1]}: set it and the size of the crops (in the pipelines of '
                             'train_dataloader and val_dataloader) to the same')
        pred, imgs, mask, _ = self._predict(imgs, data_samples)
        return self.head.loss(pred, imgs, mask, data_samples)

    @property
    def _nodata(self) -> bool:
        return getattr(self.data_preprocessor, 'nodata', False)

    def _predict(self, imgs: Tensor, data_samples: Samples) -> tuple[Tensor, Tensor, PatchMask, Tensor]:
        """Predictions (B, P, D), the clean images without NaN, the mask, and the images that the backbone saw."""
        imgs, seen, mask = hide(imgs, data_samples, self.masking, self.corruption, self._grid(imgs), self._nodata)
        pred = self.neck(self.backbone(seen, mask), mask)
        expected = (imgs.size(0), mask.ids_pred.size(1), self.head.target.dim)
        if tuple(pred.shape) != expected:
            raise ValueError(f'model.neck is a {type(self.neck).__name__} and predicts {tuple(pred.shape)}: the mask '
                             f'and model.head.target, a {type(self.head.target).__name__}, want {expected}')
        return pred, imgs, mask, seen

    @torch.no_grad()
    def predict(self, imgs: Tensor, data_samples: Sequence | None = None) -> list[BaseDataElement]:
        """For each image a data sample with ``masked_loss`` and, in pixel values squared, ``masked_mse``.

        Both are NaN for an image without data. Where the target cannot be turned back into pixels, there is no
        ``masked_mse``.
        """
        pred, imgs, mask, _ = self._predict(imgs, data_samples)
        fields = dict(masked_loss=self.head.loss_per_image(pred, imgs, mask))
        if self.head.target.invertible:
            fields['masked_mse'] = self._masked_mse(self.head.target.inverse(pred, imgs, mask), imgs, mask)
        samples = [sample.clone() for sample in data_samples] if data_samples else [BaseDataElement() for _ in imgs]
        for i, sample in enumerate(samples):
            for name, values in fields.items():
                sample.set_field(values[i], name)
        return samples

    @torch.no_grad()
    def reconstruct(self, imgs: Tensor, data_samples: Sequence | None = None,
                    data_range: float = 255) -> Reconstruction:
        """What the model makes of normalised images (B, C, H, W), to be looked at; ``data_range`` is for the PSNR."""
        pred, imgs, mask, seen = self._predict(imgs, data_samples)
        pixels, size = self.data_preprocessor.to_pixels, to_2tuple(self.backbone.patch_size)
        seen = greyed(seen, mask, size)
        shown = dict(original=pixels(imgs), seen=pixels(seen), valid=mask.valid)
        if not self.head.target.invertible:
            return Reconstruction(prediction=None, pasted=None, psnr=None, **shown)
        patches = self.head.target.inverse(pred, imgs, mask)
        places = torch.zeros_like(mask.mask, dtype=torch.bool).scatter_(1, mask.ids_pred, True)
        all_patches = patches.new_zeros(*places.shape, patches.size(2)).scatter_(
            1, mask.ids_pred.unsqueeze(-1).expand_as(patches), patches)
        prediction = unpatchify(all_patches, size, mask.grid)
        pasted = torch.where(patch_map(places, size, mask.grid), prediction, seen)
        psnr = 10 * torch.log10(data_range**2 / self._masked_mse(patches, imgs, mask))
        return Reconstruction(prediction=pixels(prediction), pasted=pixels(pasted), psnr=psnr, **shown)

    def _masked_mse(self, patches: Tensor, imgs: Tensor, mask: PatchMask) -> Tensor:
        """(B,): mean squared error in pixel values of predicted ``patches`` (B, P, p * q * C), of those with data."""
        size = to_2tuple(self.backbone.patch_size)
        std = patchify(self.data_preprocessor.std.expand_as(imgs[:1, :, :size[0], :size[1]]), size)  # of each number
        errors = (patchify(imgs, size, mask.ids_pred) - patches) * std
        if mask.valid is None:
            return errors.square().mean(dim=(1, 2))
        counted = patchify(mask.valid.float(), size, mask.ids_pred)
        return (errors.square() * counted).sum(dim=(1, 2)) / counted.sum(dim=(1, 2))

    def _grid(self, imgs: Tensor) -> tuple[int, int]:
        """Patch grid (h, w) of ``imgs``; the backbone refuses sizes that do not divide."""
        p, q = to_2tuple(self.backbone.patch_size)
        return imgs.size(2) // p, imgs.size(3) // q


def hide(imgs: Tensor, data_samples: Samples, masking: nn.Module, corruption: nn.Module | None, grid: tuple[int, int],
         nodata: bool = False) -> tuple[Tensor, Tensor, PatchMask]:
    """Draw what is hidden of normalised images (B, C, H, W), and corrupt the rest.

    Args:
        imgs: The images.
        data_samples: As for :class:`~mae_plugin.models.Masking`.
        masking: Which patches are hidden.
        corruption: What is done to what the backbone sees, or None.
        grid: (h, w) of the patches.
        nodata: Whether NaN means that there is no data.

    Returns:
        The images without NaN, the same as the backbone sees them, (B, C, H, W) each, and the mask.

    Raises:
        ValueError: If a part does not keep to its contract.
    """
    valid = None
    if nodata:
        valid = ~imgs.isnan()
        imgs = imgs.nan_to_num(0)
    mask = masking(imgs, grid, data_samples)
    if not isinstance(mask, PatchMask):
        raise ValueError(f'model.masking is a {type(masking).__name__} and returns a {type(mask).__name__}: '
                         'MaskedAutoencoder wants a mae_plugin.models.PatchMask of it')
    mask = mask if valid is None else replace(mask, valid=valid)
    seen = imgs if corruption is None else corruption(imgs, data_samples)
    if seen.shape != imgs.shape:
        raise ValueError(f'model.corruption is a {type(corruption).__name__} and makes {tuple(seen.shape)} of '
                         f'images {tuple(imgs.shape)}: MaskedAutoencoder wants the same shape')
    if valid is not None:
        seen = seen.where(valid, 0)
    return imgs, seen, mask


def greyed(imgs: Tensor, mask: PatchMask, patch_size: Sequence[int]) -> Tensor:
    """Normalised images (B, C, H, W) with hidden patches at 0, the mean of each channel."""
    return torch.where(patch_map(mask.mask < 1, patch_size, mask.grid), imgs, 0)


def patch_map(values: Tensor, patch_size: Sequence[int], grid: tuple[int, int]) -> Tensor:
    """Values (B, L), one for each patch, at each of their pixels: (B, 1, H, W)."""
    p, q = patch_size
    return values.unflatten(1, (1, *grid)).repeat_interleave(p, dim=2).repeat_interleave(q, dim=3)
