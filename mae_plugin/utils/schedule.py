"""The learning-rate schedule of a run, and the batch that it was made for."""

from fractions import Fraction

FITS = ('accumulate', 'stretch', 'keep')
_EMA_MOMENTUM = 0.0002  # MMEngine's default


def batch_of_all_processes(cfg, processes: int | None = None) -> int:
    """Images of an iteration, over all processes; by default those of the launcher."""
    if processes is None:
        from mae_plugin.engine.distributed import launched_as
        processes = launched_as(cfg.get('launcher'))[1]
    return cfg.train_dataloader.batch_size * processes


def fit_batch(cfg, fit: str | None, path: str, processes: int | None = None) -> None:
    """Make a schedule for batches of ``recipe.batch_size`` images fit the batch of this run, in place.

    MMEngine counts iterations: with an eighth of the batch the same number of them sees an eighth of the images, and
    says nothing.

    Args:
        cfg: The config; without ``recipe.batch_size`` its schedule goes with any batch.
        fit: ``'accumulate'`` takes as many iterations for a step as make up that batch; ``'stretch'`` changes the
            number of iterations, so that as many images are seen, and leaves the learning rate to ``auto_scale_lr``;
            ``'keep'`` changes nothing; None if the two batches must be equal.
        path: Of the config, for messages.
        processes: Of the run; None asks the launcher.

    Raises:
        ValueError: The batches differ and ``fit`` is None, or the one is not a multiple of the other for
            ``'accumulate'``.
    """
    wanted = (cfg.get('recipe') or {}).get('batch_size')
    if wanted is None or cfg.get('train_dataloader') is None:
        return
    batch = batch_of_all_processes(cfg, processes)
    factor = Fraction(wanted, batch)
    if factor == 1 or fit == 'keep':
        return
    if fit == 'accumulate':
        if factor.denominator != 1:
            raise ValueError(f'--fit-batch accumulate: {wanted} images, the batch of {path}, are no multiple of the '
                             f'{batch} of an iteration: change train_dataloader.batch_size')
        cfg.optim_wrapper.accumulative_counts = int(factor) * cfg.optim_wrapper.get('accumulative_counts', 1)
    elif fit is None:
        ways = [f'stretch ({float(factor):.3g} times the iterations, the learning rate follows the batch)', 'keep']
        if factor.denominator == 1:
            ways.insert(0, f'accumulate ({factor} iterations for a step)')
        raise ValueError(
            f'the schedule of {path} is made for batches of {wanted} images, and here an iteration has {batch} '
            f'(train_dataloader.batch_size x processes), so that as many iterations would see {float(1 / factor):.3g} '
            f'times as many: add --fit-batch {", ".join(ways[:-1])} or {ways[-1]} (in a chain, fit_batch in the stage)')
    if 'max_iters' not in cfg.train_cfg:
        raise ValueError(f'{path} counts epochs: --fit-batch is for schedules in iterations (train_cfg.max_iters)')
    _stretch(cfg, factor)
    cfg.recipe.batch_size = batch  # what the schedule is made for now, also in the config that the run stores


def _stretch(cfg, factor: Fraction) -> None:
    """Multiply all that is counted in iterations."""
    schedulers = cfg.get('param_scheduler') or []
    by_iteration = [scheduler for scheduler in (schedulers if isinstance(schedulers, list) else [schedulers])
                    if not scheduler.get('by_epoch', True)]
    averages = [hook for hook in cfg.get('custom_hooks') or [] if hook.get('type') == 'EMAHook']
    checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    for part in (cfg.train_cfg, *by_iteration, checkpoint):
        for key in ('max_iters', 'val_interval', 'begin', 'end', 'T_max', 'interval'):
            if isinstance(part.get(key), int) and part[key] > 0:  # an interval of -1 means never
                part[key] = max(round(part[key] * factor), 1)
        if 'milestones' in part:
            part['milestones'] = [round(milestone * factor) for milestone in part['milestones']]
    for hook in averages:  # MMEngine averages at every iteration, not at every step
        hook['begin_iter'] = round(hook.get('begin_iter', 0) * factor)
        hook['momentum'] = 1 - (1 - hook.get('momentum', _EMA_MOMENTUM)) ** float(1 / factor)


def check_schedule(cfg) -> None:
    """Name the setting when a run was made shorter than its warm-up; MMEngine names the numbers only.

    Raises:
        ValueError: A scheduler begins after the end of the run, or a warm-up is too short to leave its start.
    """
    length = (cfg.get('train_cfg') or {}).get('max_iters')
    schedulers = cfg.get('param_scheduler') or []
    for i, scheduler in enumerate(schedulers if isinstance(schedulers, list) else [schedulers]):
        begin = scheduler.get('begin', 0)
        if length is not None and not scheduler.get('by_epoch', True) and begin >= length:
            raise ValueError(
                f'param_scheduler.{i} ({scheduler.type}) begins at iteration {begin}, but train_cfg.max_iters is '
                f'{length}: shorten param_scheduler.{i}.begin and the end of the one before it, too')
        if scheduler.get('type') == 'LinearLR' and scheduler.get('end', begin + 2) - begin < 2:
            raise ValueError(f'param_scheduler.{i} (LinearLR) begins at {begin} and ends at {scheduler.end}: it needs '
                             'two iterations to leave its start factor, or the learning rate stays there')


def scale_lr(runner, cfg) -> None:
    """Count accumulated batches in ``auto_scale_lr``, which MMEngine does not, and say what the learning rate is."""
    wrapper = cfg.get('optim_wrapper') or {}
    lr, count = (wrapper.get('optimizer') or {}).get('lr'), wrapper.get('accumulative_counts', 1)
    # MMEngine's FlexibleRunner leaves it to its strategy.
    holder, name = (runner.strategy, '_auto_scale_lr') if hasattr(runner, 'strategy') else (runner, 'auto_scale_lr')
    scale = getattr(holder, name)
    if lr is None:
        return
    batch = batch_of_all_processes(cfg)
    images = f'{batch} images an iteration' + (f' x {count} for a step' if count > 1 else '')
    if scale and scale.get('enable'):
        base = scale['base_batch_size']
        setattr(holder, name, {**scale, 'base_batch_size': base / count})
        runner.logger.info(f'Learning rate: {lr:g} for {base}; {images}: {lr * batch * count / base:.6g}')
    else:
        runner.logger.info(f'Learning rate: {lr:g}, not scaled; {images}')
