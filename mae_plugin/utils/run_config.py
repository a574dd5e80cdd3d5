"""From command line arguments to a runner: what ``tools/train.py`` and ``tools/test.py`` share."""

import argparse
import copy
import os
import re
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from mae_plugin.utils.cli import keep_traceback_in, nearest
from mae_plugin.utils.model_sizes import check_channels, check_sizes
from mae_plugin.utils.overrides import apply_overrides
from mae_plugin.utils.schedule import check_schedule

_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that training and testing share, named as in OpenMMLab's tools."""
    parser.add_argument('--work-dir', help='where logs and checkpoints go; default: work_dirs/<name of the config>')
    parser.add_argument(
        '--amp', action='store_true',
        help='mixed precision: bfloat16, on a GPU or the CPU; for detection float16, on a GPU only')
    parser.add_argument('--no-pin-memory', action='store_true', help='switch pin_memory off in all data loaders')
    parser.add_argument(
        '--no-persistent-workers', action='store_true', help='switch persistent_workers off in all data loaders')
    parser.add_argument(
        '--cfg-options', nargs='+', action='extend', default=[], metavar='KEY=VALUE',
        help='change settings of the config: dotted keys, list positions as numbers (param_scheduler.0.end=100), '
        'values as key=1, key=[a,b] or key="[(a,b),(c,d)]" without white space; the key must exist, +key=value adds it')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help='set by torch.distributed.launch')
    parser.add_argument('--debug', action='store_true', help='show the whole traceback of an error')


def repository() -> Path:
    """The folder with ``configs`` and ``tools``: the repository, or ``.mim`` of an installed wheel."""
    import mae_plugin
    package = Path(mae_plugin.__file__).parent
    return package.parent if (package.parent / 'tools' / 'train.py').is_file() else package / '.mim'


def find_file(path: str | os.PathLike) -> Path:
    """``path`` itself, or if there is no such file the one of that name in the plugin's repository."""
    path = Path(path).expanduser()
    return path if path.exists() or not (repository() / path).is_file() else repository() / path


def load_config(path: str | os.PathLike, options: Sequence[str] = ()):
    """Read a config and apply ``--cfg-options`` to it.

    Where a config tests as it validates, an option for ``val_dataloader`` or ``val_evaluator`` goes for both.

    Args:
        path: A config; ``configs/...`` is also found in the plugin's repository, from any folder.
        options: As for :func:`~mae_plugin.utils.overrides.apply_overrides`.

    Returns:
        mmengine.Config: The config.

    Raises:
        FileNotFoundError: No such file; the message has the nearest names.
        ValueError: The file cannot be read as a config.
        KeyError: An option names a key that the config does not have.
    """
    from mmengine.config import Config
    file = find_file(path)
    if file.is_dir():
        raise FileNotFoundError(f'{path} is a folder; its configs: {", ".join(map(str, sorted(file.glob("*.py"))))}')
    if not file.is_file():
        folders = (file.parent, Path('configs'), repository() / 'configs')
        known = {config.name: config for folder in folders for config in folder.rglob('*.py')}
        near = [str(known[name]) for name in nearest(file.name, list(known))]
        hint = f'; did you mean {" or ".join(near)}?' if near else ''
        raise FileNotFoundError(f'there is no config {path}{hint}')
    try:
        cfg = Config.fromfile(file)
    except FileNotFoundError as error:  # a base
        raise FileNotFoundError(f'{file}: {error}') from error
    except Exception as error:  # a config is code and may fail in any way
        raise ValueError(f'the config {file} cannot be read: {type(error).__name__}: {error}') from error
    shared = [part for part in ('dataloader', 'evaluator') if cfg.get(f'test_{part}') == cfg.get(f'val_{part}')]
    apply_overrides(cfg, options)
    for part in shared:  # test_dataloader = val_dataloader in a config is a copy, which an option did not reach
        named = any(option.lstrip('+').startswith(f'test_{part}') for option in options)
        if not named and cfg.get(f'val_{part}') is not None:  # without validation there still are tests
            cfg[f'test_{part}'] = copy.deepcopy(cfg[f'val_{part}'])
    return cfg


def prepare(cfg, args: argparse.Namespace) -> None:
    """Apply the shared arguments to ``cfg``, in place, and the environment that goes with them."""
    if args.launcher in ('none', 'pytorch'):  # the others' processes have a variable of their own
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if 'DYNAMO_CACHE_SIZE_LIMIT' in os.environ:  # as in mmdet's tools: detection has many shapes to compile
        import torch._dynamo
        torch._dynamo.config.cache_size_limit = int(os.environ['DYNAMO_CACHE_SIZE_LIMIT'])
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs', Path(args.config).stem))
    keep_traceback_in(cfg.work_dir)
    for name in _LOADERS:
        if cfg.get(name) is not None:
            _prepare_loader(cfg[name], cfg.get('default_scope'), args)
    fill_in_data(cfg)
    _say_data_range(cfg)


def fill_in_data(cfg) -> None:
    """Give the data sets of ``cfg`` what it says elsewhere, in place: where their images are, and of which size."""
    for name in _LOADERS:
        if cfg.get(name) is not None:
            _share_images(cfg.get('train_dataloader'), cfg[name])
            fill_in_size(cfg, cfg[name].dataset)
            fill_in_nodata(cfg, cfg[name].dataset, name)


def _prepare_loader(loader: dict, scope: str | None, args: argparse.Namespace) -> None:
    if scope == 'mmpretrain':  # its configs count on what its tools fill in
        import torch
        loader.setdefault('pin_memory', torch.cuda.is_available())
        loader.setdefault('persistent_workers', True)
        loader.setdefault('collate_fn', dict(type='default_collate'))
    if args.no_pin_memory:
        loader['pin_memory'] = False
    if args.no_persistent_workers or not loader.get('num_workers'):  # without workers PyTorch refuses it
        loader['persistent_workers'] = False


def fill_in_size(cfg, dataset: dict) -> None:
    """Give the size of the model's images to transforms of unlabelled images whose ``size`` is None."""
    if dataset.get('type') == 'mae_plugin.UnlabelledImages':
        for transform in dataset.pipeline:
            if 'size' in transform and transform['size'] is None:
                transform['size'] = cfg.model.backbone.img_size


def fill_in_nodata(cfg, dataset: dict, loader: str = 'train_dataloader') -> None:
    """Tell the data preprocessor of pretraining whether the images have pixels without data.

    Raises:
        ValueError: It says something else.
    """
    preprocessor = cfg.model.get('data_preprocessor') or {}
    if (dataset.get('type'), preprocessor.get('type')) != ('mae_plugin.UnlabelledImages',
                                                           'mae_plugin.MAEDataPreprocessor'):
        return
    nodata = (dataset.get('arrays') or {}).get('nodata')
    if nodata is not None:
        preprocessor.setdefault('nodata', True)
    if preprocessor.get('nodata', False) != (nodata is not None):
        raise ValueError(f'model.data_preprocessor.nodata={preprocessor.get("nodata")} disagrees with {loader}.dataset '
                         f'and its arrays, nodata={nodata}: leave the first out, and give all data sets the same '
                         'arrays')


def _say_data_range(cfg) -> None:
    """Say that PSNR counts from 255 where the numbers of the files may go further, and no setting tells how far."""
    dataset, evaluator = (cfg.get('val_dataloader') or {}).get('dataset', {}), cfg.get('val_evaluator')
    if dataset.get('mode') == 'array' and isinstance(evaluator, dict) and 'data_range' not in evaluator:
        print("PSNR is relative to 255, the range of 8 bits: if the images of mode='array' go further, say how far by "
              '+val_evaluator.data_range=...')


def _share_images(train_loader: dict | None, loader: dict) -> None:
    """Let a data set whose ``data_root`` is None take its images from where the training images come from."""
    if train_loader is None:
        return
    train_set, dataset = train_loader['dataset'], loader['dataset']
    if 'data_root' in dataset and dataset['data_root'] is None:
        shared = ('data_root', 'data_prefix', 'channels', 'extensions', 'storage',  # not the weights: each image once
                  *(() if 'mode' in dataset else ('mode', 'cache', 'arrays')))
        dataset.update({key: train_set[key] for key in shared if key in train_set})
    shares = [part.get('holdout', 0) for part in (train_set, dataset)]
    if dataset.get('split') == 'val' and dataset.get('data_root') == train_set.get('data_root') and len({*shares}) > 1:
        raise ValueError(
            f'the training data set has holdout={shares[0]}, the one for validation {shares[1]}, of the same images '
            f'({dataset["data_root"]}): make them equal, or training sees images that are held out')


def store_as(cfg, name: str) -> None:
    """Name the file that MMEngine keeps the config in: that of a test must not replace that of the training."""
    super(type(cfg), cfg).__setattr__('_filename', name)


def float32_for_detection_on_the_cpu(cfg) -> None:
    """Leave out the half precision of a detection config where mmcv's operators have none."""
    from mmengine.device import get_device
    if cfg.get('default_scope') == 'mmdet' and cfg.optim_wrapper.get('dtype') == 'float16' and get_device() == 'cpu':
        print("detection on the CPU: float32 instead of float16, which mmcv's RoIAlign does not have there")
        cfg.optim_wrapper.dtype = 'float32'


def half_precision(cfg) -> str:
    """The type of ``--amp``: bfloat16, but for detection float16, for mmcv's RoIAlign has no bfloat16.

    Raises:
        ValueError: It is detection on the CPU.
    """
    if cfg.get('default_scope') != 'mmdet':
        return 'bfloat16'
    from mmengine.device import get_device
    if get_device() == 'cpu':
        raise ValueError("--amp: detection needs a GPU for it, mmcv's RoIAlign has no half precision on the CPU")
    return 'float16'


def set_test_amp(cfg) -> None:
    """Switch mixed precision on for testing, in the type of :func:`half_precision`.

    Raises:
        ValueError: As there.
    """
    import torch
    cfg.test_cfg.fp16 = True  # only MMEngine's name for it; the type is PyTorch's default, on the CPU bfloat16
    torch.set_autocast_dtype('cuda', getattr(torch, half_precision(cfg)))


def set_amp(cfg) -> None:
    """Switch mixed precision on for training, in the type of :func:`half_precision` unless the config chose one.

    Raises:
        ValueError: The config has a wrapper of another kind, or as :func:`half_precision`.
    """
    half = half_precision(cfg)
    wrapper = cfg.optim_wrapper
    kind = wrapper.get('type', 'OptimWrapper')
    if kind == 'OptimWrapper' or wrapper.get('dtype') == 'float32':
        wrapper.update(type='mae_plugin.AutocastOptimWrapper', dtype=half)
    elif kind not in ('AmpOptimWrapper', 'mae_plugin.AutocastOptimWrapper'):
        raise ValueError(f"--amp replaces optim_wrapper.type 'OptimWrapper', but the config has {kind!r}")


def newest_checkpoint(work_dir: str | os.PathLike) -> Path | None:
    """The checkpoint to go on from, or None.

    That is the one which ``last_checkpoint`` names, also after the folder was moved; if that is gone, the one with the
    highest iteration or epoch.
    """
    work_dir = Path(work_dir)
    pointer = work_dir / 'last_checkpoint'
    if pointer.is_file():
        named = Path(pointer.read_text().strip())
        for file in (work_dir / named.name, named):
            if file.is_file():
                return file
    numbered = [(int(match[1]), file) for file in work_dir.glob('*.pth')
                if (match := re.fullmatch(r'(?:iter|epoch)_(\d+)', file.stem))]
    return max(numbered, default=(0, None))[1]


def set_resume(cfg, resume: str | None) -> None:
    """Decide where the run starts, in place.

    Args:
        cfg: The config, with its ``work_dir``.
        resume: None for a new run, ``'auto'`` for the newest checkpoint of the work directory, or a checkpoint.

    Raises:
        ValueError: It is a new run and the work directory holds a checkpoint.
        FileNotFoundError: The checkpoint to resume does not exist.
    """
    newest = newest_checkpoint(cfg.work_dir)
    if resume is None and cfg.get('resume'):
        resume = cfg.get('load_from') or 'auto'
    if resume is None:
        held = newest or next(Path(cfg.work_dir).glob('*.pth'), None)
        if held is not None:
            raise ValueError(f'{cfg.work_dir} already holds {held.name} of another run: go on with it by --resume, '
                             'or start a new one in another --work-dir')
    elif resume != 'auto':
        if not Path(resume).expanduser().is_file():
            what = 'that is a folder' if Path(resume).expanduser().is_dir() else 'there is no such file'
            raise FileNotFoundError(f'--resume {resume}: {what}; the newest checkpoint of '
                                    f'{cfg.work_dir} is {newest or "not there either"}')
        cfg.resume, cfg.load_from = True, resume
    elif newest is not None:
        cfg.resume, cfg.load_from = True, str(newest)
    else:
        print(f'--resume: {cfg.work_dir} holds no checkpoint, so this run starts from the beginning')
        cfg.resume = False
    for part in (cfg.model, cfg.model.get('backbone') or {}):
        start = part.get('init_cfg')
        if cfg.get('resume') and isinstance(start, dict) and start['type'] == 'mae_plugin.MAEPretrained':
            part['init_cfg'] = None  # all weights are in the checkpoint, and the pretraining file may be gone


@contextmanager
def build_runner(cfg, strict: bool, loaders: Sequence[str] = ('train_dataloader', 'val_dataloader')):
    """Build the runner and the data it needs, for any number of processes, reading files through the safe loader only.

    Args:
        cfg: The config.
        strict: The checkpoint of ``load_from`` must hold every weight of the model, and not only of its backbone.
        loaders: The data loaders that will be used.

    Yields:
        mmengine.runner.Runner: The runner.
    """
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    from mae_plugin.datasets.label_checks import check_labels, check_maps_when_loaded
    from mae_plugin.datasets.prepare import prepare_data
    from mae_plugin.engine import CheckpointFitsHook, LastValidationHook
    from mae_plugin.engine.distributed import end_launch, prepare_launch
    from mae_plugin.weights import safe_load
    safe_load.install()
    check_sizes(cfg.model)
    check_channels(cfg)
    _check_optimizer(cfg)
    check_schedule(cfg)
    prepare_data(cfg)
    check_labels(cfg, loaders)
    check_maps_when_loaded(cfg, loaders)
    prepare_launch(cfg)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    fits = CheckpointFitsHook(resume=bool(cfg.get('resume')), part='' if strict else 'backbone.')
    runner.register_hook(fits, priority='LOWEST')
    if cfg.get('resume'):
        runner.register_hook(LastValidationHook(), priority='LOWEST')
    yield runner
    end_launch()  # not after an error: other ranks may be waiting in it


def _check_optimizer(cfg) -> None:
    """Say that the optimizer is unknown, for MMEngine says "None is not a callable object"."""
    from mmengine.registry import OPTIMIZERS
    kind = ((cfg.get('optim_wrapper') or {}).get('optimizer') or {}).get('type')
    with OPTIMIZERS.switch_scope_and_registry(cfg.get('default_scope')) as registry:
        if isinstance(kind, str) and registry.get(kind) is None:
            raise KeyError(f'{kind} is not in the optimizer registry')
