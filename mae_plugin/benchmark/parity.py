"""The parity gate: a contender computes what the plain path computes, or gets no number."""

from dataclasses import asdict, dataclass

import torch
from mmengine.config import Config
from torch import Tensor

from mae_plugin.benchmark.contenders import Contender, built_model
from mae_plugin.models.plain import plain_loss

SEED = 7  # of the masks


@dataclass
class Parity:
    """How far a contender is from the plain path in float32, at the same weights, images and masks.

    Attributes:
        dtype: The contender's precision.
        loss: Relative difference of the loss.
        gradient: Norm of the difference of all gradients over the norm of the reference.
        worst: The largest such ratio of a single tensor.
        worst_name: Its name.
        cosine: Cosine of the angle between all gradients.
    """

    dtype: str
    loss: float
    gradient: float
    worst: float
    worst_name: str
    cosine: float

    @property
    def failed(self) -> list[str]:
        """What is beyond its limit, in words; empty if the gate is passed."""
        limits = [('loss', self.loss, 1e-6), ('gradient', self.gradient, 1e-5),
                  (f'gradient of {self.worst_name}', self.worst, 1e-4)]
        if self.dtype != 'float32':
            limits = [('loss', self.loss, 1e-3)]
        failed = [f'{name} {value:.1e} (limit {limit:.0e})' for name, value, limit in limits if not value <= limit]
        if self.dtype != 'float32' and not self.cosine > .999:
            failed.append(f'gradient cosine {self.cosine:.5f} (limit 0.999)')
        return failed

    def as_dict(self) -> dict:
        """For JSON."""
        return asdict(self) | dict(failed=self.failed)


def plain_step(cfg: Config, imgs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of the plain path in float32, by our names.

    Args:
        cfg: A pretraining config.
        imgs: uint8 images (B, C, H, W), on the device to compute on.
    """
    model = built_model(cfg).to(imgs.device)
    imgs = model.data_preprocessor(dict(inputs=imgs))['inputs']
    torch.manual_seed(SEED)
    loss = plain_loss(model, imgs, model.masking(imgs, model._grid(imgs)))
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def contender_step(contender: Contender, imgs: Tensor, warmup: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of a real training step of ``contender``, by our names; its weights stay as they are.

    The learning rate is zero, and a hook of the optimizer takes the gradients from it. So this is what the contender
    trains with, whatever is compiled, fused or recorded as a graph.

    Args:
        contender: A contender with fresh weights.
        imgs: As for :func:`plain_step`.
        warmup: Steps before, until everything is compiled and recorded.
    """
    names = {p: name for name, p in contender.model.named_parameters()}
    gradients: dict[str, Tensor] = {}

    def take(optimizer, *_) -> None:
        for group in optimizer.param_groups:
            gradients.update({names[p]: p.grad.detach().clone() for p in group['params'] if p.grad is not None})

    handle = contender.optimizer.register_step_pre_hook(take)
    try:
        batch = contender.prepare(imgs)
        for _ in range(warmup + 1):
            contender.set_lr(0.)
            torch.manual_seed(SEED)
            loss = contender.train([batch])
    finally:
        handle.remove()
    return torch.as_tensor(loss).detach(), contender.our_names(gradients)


def compare(reference: tuple[Tensor, dict[str, Tensor]], other: tuple[Tensor, dict[str, Tensor]], dtype: str) -> Parity:
    """Hold the step of a contender against that of the plain path."""
    (loss, gradients), (other_loss, others) = reference, other
    if gradients.keys() != others.keys():
        missing = sorted(gradients.keys() ^ others.keys())
        return Parity(dtype, float('nan'), float('inf'), float('inf'), f'{missing[0]} (only one has it)', 0.)
    squares = torch.zeros(4, dtype=torch.float64)  # of the difference, the reference, the other; and the product
    worst = (0., '')
    for name, gradient in gradients.items():
        a, b = gradient.double().flatten(), others[name].double().flatten()
        found = torch.stack([(a - b).square().sum(), a.square().sum(), b.square().sum(), a @ b]).cpu()
        squares += found
        worst = max(worst, ((found[0] / found[1]).sqrt().item(), name))
    difference, norm, other_norm, product = squares.tolist()
    return Parity(dtype, abs(other_loss.double().item() / loss.double().item() - 1), (difference / norm)**.5, *worst,
                  product / (norm * other_norm)**.5)
