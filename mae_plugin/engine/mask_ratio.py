"""A share of hidden patches that changes over training."""

from math import cos, pi

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from timm.layers import to_2tuple

from mae_plugin.models.masking import Masking
from mae_plugin.models.masks import FileMasking
from mae_plugin.registry import HOOKS

_SHAPES = {'linear': lambda t: t, 'cosine': lambda t: (1 - cos(pi * t)) / 2}


@HOOKS.register_module()
class MaskRatioHook(Hook):
    """Let ``model.masking.mask_ratio`` go from ``start`` to ``end``.

    It is a function of the iteration alone, so that a resumed run goes on with the same masks. Validation, and the
    model after the run, have the ratio of the config. The ratio takes ``steps`` values, for equally long: each is
    another shape of the encoder's input, for which blocks are compiled, or a graph recorded, anew.

    Args:
        start: Ratio up to iteration ``begin``, in (0, 1).
        end: Ratio from ``end_iter`` on, in (0, 1).
        begin: Iteration that begins the change.
        end_iter: Iteration that ends it; None for the end of the run.
        shape: ``'linear'`` or ``'cosine'``, which begins and ends slowly.
        steps: Number of values, ``start`` and ``end`` among them, at least 2.

    Raises:
        ValueError: If an argument is another, or the change begins after the run, or the model has no ratio that can
            change, or a grid that one of the ratios leaves no patch to keep, none to hide or fewer than ``pred_ratio``.
    """

    def __init__(self, start: float, end: float, begin: int = 0, end_iter: int | None = None, shape: str = 'linear',
                 steps: int = 8) -> None:
        for name, ratio in (('start', start), ('end', end)):
            if not 0 < ratio < 1:
                raise ValueError(f'MaskRatioHook: {name}={ratio} is a share of hidden patches and lies between 0 and '
                                 '1, both excluded')
        if shape not in _SHAPES:
            raise ValueError(f'MaskRatioHook: shape={shape!r} is none of {", ".join(map(repr, _SHAPES))}')
        if steps < 2:
            raise ValueError(f'MaskRatioHook: steps={steps} is the number of ratios, at least start and end: 2')
        if begin < 0 or end_iter is not None and end_iter <= begin:
            raise ValueError(f'MaskRatioHook: begin={begin} and end_iter={end_iter} are iterations, the first at least '
                             '0 and below the second')
        self.start, self.end, self.begin, self.end_iter = start, end, begin, end_iter
        self.shape, self.steps = shape, steps
        self.masking: Masking | None = None

    def ratio(self, iteration: int, max_iters: int) -> float:
        """The ratio of an iteration, counted from 0, of a run of ``max_iters``."""
        end = max_iters if self.end_iter is None else self.end_iter
        step = min(max(iteration - self.begin, 0) * self.steps // max(end - self.begin, 1), self.steps - 1)
        share = _SHAPES[self.shape](step / (self.steps - 1))
        return (1 - share) * self.start + share * self.end

    def before_train(self, runner) -> None:
        """Find the model's masking, and see that its grid has patches to keep and to hide all the time."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        masking = getattr(model, 'masking', None)
        if not isinstance(masking, Masking) or isinstance(masking, FileMasking):
            raise ValueError(f'MaskRatioHook: model.masking is a {type(masking).__name__}, whose ratio cannot change; '
                             "take one like dict(type='mae_plugin.RandomMasking')")
        self.masking, self.configured = masking, masking.mask_ratio
        sizes = (to_2tuple(size) for size in (model.backbone.img_size, model.backbone.patch_size))
        grid = tuple(side // patch for side, patch in zip(*sizes, strict=True))
        for name, masking.mask_ratio in (('start', self.start), ('end', self.end)):
            masking.num_keep(grid)
            if masking.pred_ratio is not None and masking.pred_ratio > masking.mask_ratio:
                raise ValueError(f'MaskRatioHook: {name}={masking.mask_ratio} hides fewer patches than are to be '
                                 f'predicted, model.masking.pred_ratio={masking.pred_ratio}: make it at most {name}')
        self._restore()
        if self.begin >= runner.max_iters:
            raise ValueError(f'MaskRatioHook: begin={self.begin} is not before the end of the run, '
                             f'train_cfg.max_iters={runner.max_iters}: the ratio would never change')

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Set the ratio of the iteration."""
        self.masking.mask_ratio = self.ratio(runner.iter, runner.max_iters)

    def before_val(self, runner) -> None:
        """Validate with the ratio of the config."""
        self._restore()

    def after_train(self, runner) -> None:
        """Leave the ratio of the config."""
        self._restore()

    def _restore(self) -> None:
        if self.masking is not None:
            self.masking.mask_ratio = self.configured
