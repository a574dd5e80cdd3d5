"""What ``tools/test.py`` can do besides testing: predictions and metrics to files, pictures, augmentation."""

import argparse
from pathlib import Path

# For each library: its visualization hook, its visualizer, the hook's switch and its name for the folder of pictures.
_DRAWING = {
    'mmdet': ('DetVisualizationHook', 'DetLocalVisualizer', 'draw', 'test_out_dir'),
    'mmseg': ('SegVisualizationHook', 'SegLocalVisualizer', 'draw', None),
    'mmpretrain': ('VisualizationHook', 'UniversalVisualizer', 'enable', 'out_dir'),
}


def output_files(cfg, args: argparse.Namespace) -> tuple[str | None, str | None]:
    """Sort out ``--out``, ``--out-item`` and ``--dump``.

    Returns:
        The files for the predictions and for the metrics. A folder for segmentation maps is set in ``cfg`` instead.

    Raises:
        ValueError: A file name of the wrong kind.
    """
    predictions, metrics = args.dump, None
    if args.out_item and not args.out:
        raise ValueError('--out-item says what goes to the file of --out: give --out FILE.pkl as well')
    if args.out:
        suffix = Path(args.out).suffix
        if suffix == '.json' or args.out_item == 'metrics':
            metrics = args.out
        elif suffix in ('.pkl', '.pickle'):
            predictions = args.out
        elif not suffix and cfg.get('default_scope') == 'mmseg':
            cfg.test_evaluator['output_dir'] = args.out
        else:
            raise ValueError(f'--out {args.out}: give a .pkl file for the predictions, a .json file for the metrics, '
                             'or for segmentation a folder')
    for file, item, kinds in ((predictions, 'predictions', ('.pkl', '.pickle')),
                              (metrics, 'metrics', ('.json', '.pkl', '.pickle'))):
        if file and Path(file).suffix not in kinds:
            raise ValueError(f'{file}: the name of a file of {item} must end in {" or ".join(kinds)}')
    return predictions, metrics


def set_drawing(cfg, args: argparse.Namespace) -> None:
    """Let the library's visualization hook draw the predictions, in place.

    Raises:
        ValueError: The config is of no library that draws.
    """
    scope = cfg.get('default_scope')
    if scope not in _DRAWING:
        raise ValueError(f'--show and --show-dir draw what {", ".join(_DRAWING)} predict, and default_scope of '
                         f'{args.config} is none of them')
    hook_type, visualizer_type, switch, folder = _DRAWING[scope]
    if 'visualization' not in cfg.default_hooks:
        cfg.default_hooks.visualization = dict(type=hook_type)
    hook = cfg.default_hooks.visualization
    hook.update({switch: True, 'interval': args.interval})
    if cfg.visualizer.type == 'Visualizer':  # MMEngine's cannot draw samples
        cfg.visualizer.type = visualizer_type
    if args.show:
        hook.update(show=True, wait_time=args.wait_time)
    if args.show_dir and folder:
        hook[folder] = args.show_dir
    elif args.show_dir:
        cfg.visualizer['save_dir'] = args.show_dir


def set_tta(cfg, path: str) -> None:
    """Test with the augmentations of ``tta_model`` and ``tta_pipeline``, in place.

    Raises:
        ValueError: The config does not have both.
    """
    if 'tta_model' not in cfg or 'tta_pipeline' not in cfg:
        raise ValueError(f'--tta needs tta_model and tta_pipeline, and {path} does not have both')
    cfg.model = dict(cfg.tta_model, module=cfg.model)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline


def dump_predictions(runner, scope: str | None, path: str) -> None:
    """Let ``runner`` write its predictions to a pickle file, masks compressed for mmdet."""
    from mmengine.registry import METRICS
    kind = 'mmdet.DumpDetResults' if scope == 'mmdet' else 'DumpResults'
    runner.test_evaluator.metrics.append(METRICS.build(dict(type=kind, out_file_path=path)))
