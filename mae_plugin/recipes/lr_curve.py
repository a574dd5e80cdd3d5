"""Learning rates over a run in closed form: those of published recipes, and those of MMEngine's schedulers."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

# Below this share of its nominal value a learning rate counts as zero: MMEngine refuses start_factor=0, and some of its
# schedules end an iteration earlier.
ZERO = 1e-5


class Curve(NamedTuple):
    """A learning rate over a run.

    Attributes:
        at: Learning rate of an iteration, counted from 0.
        peak: Nominal value, of which ``at`` is a share.
        warmup: Iterations of the warm-up.
        length: Iterations of the run.
        points: Iterations at which curves are compared, by name.
    """

    at: Callable[[int], float]
    peak: float
    warmup: int
    length: int
    points: dict[str, int]

    def in_run(self, i: int, length: int, pace: float) -> int:
        """The iteration of another run that corresponds to iteration ``i`` of this one.

        A warm-up is counted in epochs, so it lasts as long in a longer run; what follows is stretched to the end.

        Args:
            i: An iteration of this curve.
            length: Iterations of the other run.
            pace: Iterations of its epoch over those of this curve's.
        """
        warmup = self.warmup * pace
        if i <= self.warmup:
            return min(round(i * pace), length - 1)
        return min(round(warmup + (i - self.warmup) * (length - warmup) / (self.length - self.warmup)), length - 1)


def _points(warmup: int, length: int, **more: int) -> dict[str, int]:
    quarters = {f'{share} %': length * share // 100 for share in (25, 50, 75)}
    return {'start': 0, 'half of the warm-up': warmup // 2, 'end of the warm-up': warmup, **quarters, **more,
            'last iteration': length - 1}


def cosine(peak: float, warmup: int, length: int, least: float = 0.) -> Curve:
    """Linear warm-up from 0, then half a cosine to ``least``, updated at every iteration (MAE, Tables 8-10)."""
    def at(i: int) -> float:
        if i < warmup:
            return peak * i / warmup
        return least + (peak - least) * (1 + math.cos(math.pi * (i - warmup) / (length - warmup))) / 2
    return Curve(at, peak, warmup, length, _points(warmup, length))


def steps(peak: float, warmup: int, start: float, milestones: Sequence[int], length: int) -> Curve:
    """Linear warm-up from the share ``start``, a tenth from each of the ``milestones`` on (ViTDet, appendix A.2)."""
    def at(i: int) -> float:
        share = start + (1 - start) * i / warmup if i < warmup else 1.
        return peak * share * 0.1 ** sum(i >= milestone for milestone in milestones)
    around = {f'{when} step {k}': milestone - (when == 'before')
              for k, milestone in enumerate(milestones, 1) for when in ('before', 'from')}
    return Curve(at, peak, warmup, length, _points(warmup, length, **around))


def polynomial(peak: float, warmup: int, start: float, length: int) -> Curve:
    """A straight line to 0 over the whole run, times a linear warm-up from the share ``start`` (mmcv 1.x, 'poly')."""
    def at(i: int) -> float:
        share = 1 - (1 - i / warmup) * (1 - start) if i < warmup else 1.
        return peak * (1 - i / length) * share
    return Curve(at, peak, warmup, length, _points(warmup, length))


def of_schedulers(schedulers: Sequence[dict], lr: float, length: int, epoch_length: int | None,
                  max_epochs: int | None = None) -> Callable[[int], float]:
    """The learning rate that MMEngine's schedulers give at an iteration, in closed form.

    Args:
        schedulers: ``param_scheduler`` of a config.
        lr: Learning rate of the parameter group before any scheduler.
        length: Iterations of the run, which is where a scheduler without ``end`` ends.
        epoch_length: Iterations of an epoch, for schedulers that count epochs.
        max_epochs: Epochs of the run, where it is counted in epochs.

    Returns:
        The learning rate of an iteration, counted from 0.

    Raises:
        ValueError: A scheduler or one of its settings is not understood, or two overlap of which one has a least value.
    """
    parts = [_scheduler(dict(cfg), lr, length, epoch_length, max_epochs) for cfg in schedulers]
    for part in parts:
        if part.least and any(other is not part and other.begin < part.end and part.begin < other.end
                              for other in parts):
            raise ValueError('schedulers overlap, and one has eta_min, which is not understood')

    def at(i: int) -> float:
        value = lr
        for part in parts:
            step = i // part.unit
            if step >= part.begin:
                value = part.apply(value, min(step, part.end - 1) - part.begin)
        return value
    return at


class _Part(NamedTuple):
    """A scheduler from ``begin`` to before ``end``, in units of ``unit`` iterations."""

    begin: int
    end: int
    unit: int
    least: float
    apply: Callable[[float, int], float]


def _scheduler(cfg: dict, lr: float, length: int, epoch_length: int | None, max_epochs: int | None) -> _Part:
    kind = str(cfg.pop('type')).rpartition('.')[2]
    by_epoch, convert = cfg.pop('by_epoch', True), cfg.pop('convert_to_iter_based', False)
    cfg.pop('verbose', None)
    if by_epoch and epoch_length is None:
        raise ValueError(f'{kind} counts epochs of a data set of unknown length')
    run = (max_epochs or math.ceil(length / epoch_length)) if by_epoch else length
    begin, end = cfg.pop('begin', 0), min(cfg.pop('end', run), run)
    scale = epoch_length if by_epoch and convert else 1  # settings are in epochs, steps in iterations
    begin, end = int(begin * scale), int(end * scale)
    unit = epoch_length if by_epoch and not convert else 1
    steps_of = dict(LinearLR=_linear, ConstantLR=_constant, CosineAnnealingLR=_cosine, PolyLR=_poly,
                    MultiStepLR=_multi_step).get(kind)
    if steps_of is None:
        raise ValueError(f'the scheduler {kind} is not understood')
    least, apply = steps_of(cfg, end - begin, scale, lr)
    if cfg:
        raise ValueError(f'{kind} has settings that are not understood: {sorted(cfg)}')
    return _Part(begin, end, unit, least, apply)


def _linear(cfg: dict, steps: int, scale: int, lr: float):
    first, last = cfg.pop('start_factor', 1 / 3), cfg.pop('end_factor', 1.)
    return 0., lambda value, s: value * (first + (last - first) * s / max(steps - 1, 1))


def _constant(cfg: dict, steps: int, scale: int, lr: float):
    factor = cfg.pop('factor', 1 / 3)
    return 0., lambda value, s: value * (factor if s < steps - 1 else 1.)


def _cosine(cfg: dict, steps: int, scale: int, lr: float):
    period = cfg.pop('T_max', None)
    period = steps if period is None else period * scale
    ratio, least = cfg.pop('eta_min_ratio', None), cfg.pop('eta_min', None)
    least = lr * ratio if ratio is not None else least or 0.
    return least, lambda value, s: least + (value - least) * (1 + math.cos(math.pi * s / period)) / 2


def _poly(cfg: dict, steps: int, scale: int, lr: float):
    power, least = cfg.pop('power', 1.), cfg.pop('eta_min', 0.)
    return least, lambda value, s: least + (value - least) * (1 - s / max(steps - 1, 1)) ** power


def _multi_step(cfg: dict, steps: int, scale: int, lr: float):
    milestones, gamma = [m * scale for m in cfg.pop('milestones')], cfg.pop('gamma', 0.1)
    return 0., lambda value, s: value * gamma ** sum(s >= m for m in milestones)
