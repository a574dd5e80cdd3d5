"""Evaluate a checkpoint as a config says: pretraining, or a task of mmpretrain, mmdet or mmseg."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also works without installation

from mae_plugin.utils import run_config, testing  # noqa: E402
from mae_plugin.utils.cli import leave, run_cli  # noqa: E402


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config file')
    parser.add_argument('checkpoint', help='the checkpoint; must hold every weight of the model')
    parser.add_argument(
        '--out', help='write the predictions to a .pkl file or the metrics to a .json file; '
        'for segmentation also a folder, which gets the predicted maps')
    parser.add_argument('--out-item', choices=['metrics', 'pred'], help='what goes to the .pkl file of --out')
    parser.add_argument('--dump', help='write the predictions to this .pkl file')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', help='write pictures of the predictions to this folder')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds each picture of --show stays')
    parser.add_argument('--interval', type=int, default=1, help='draw every so many images')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation as the config describes it')
    run_config.add_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Test."""
    args = parse_args(argv)
    cfg = run_config.load_config(args.config, args.cfg_options)
    run_config.prepare(cfg, args)
    cfg.resume, cfg.load_from = False, args.checkpoint
    run_config.store_as(cfg, f'{Path(args.config).stem}_test.py')
    predictions_file, metrics_file = testing.output_files(cfg, args)
    if args.amp:
        run_config.set_test_amp(cfg)
    if args.show or args.show_dir:
        testing.set_drawing(cfg, args)
    if args.tta:
        testing.set_tta(cfg, args.config)
    with run_config.build_runner(cfg, strict=True, loaders=['test_dataloader']) as runner:
        if predictions_file:
            testing.dump_predictions(runner, cfg.get('default_scope'), predictions_file)
        metrics = runner.test()
    if metrics_file:
        import mmengine
        mmengine.dump(metrics, metrics_file)


if __name__ == '__main__':
    leave(run_cli(main))
