"""Train what a config says: pretraining, or a task of mmpretrain, mmdet or mmseg."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also works without installation

from mae_plugin.utils import run_config, schedule  # noqa: E402
from mae_plugin.utils.cli import leave, run_cli  # noqa: E402


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config file')
    parser.add_argument(
        '--resume', nargs='?', const='auto', metavar='CHECKPOINT',
        help='go on from a checkpoint; without one from the newest of the work directory')
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate during training')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size of all processes')
    parser.add_argument(
        '--fit-batch', choices=schedule.FITS, help='where the batch is not the one that the schedule is made for: '
        'accumulate batches for a step, stretch the schedule (the learning rate follows the batch), or keep it')
    run_config.add_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Train."""
    args = parse_args(argv)
    cfg = run_config.load_config(args.config, args.cfg_options)
    run_config.prepare(cfg, args)
    schedule.fit_batch(cfg, args.fit_batch, args.config)
    run_config.set_resume(cfg, args.resume)
    if args.amp:
        run_config.set_amp(cfg)
    run_config.float32_for_detection_on_the_cpu(cfg)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise ValueError(f'--auto-scale-lr: {args.config} does not say auto_scale_lr = dict(base_batch_size=...)')
        cfg.auto_scale_lr.enable = True
    with run_config.build_runner(cfg, strict=cfg.get('resume', False)) as runner:
        schedule.scale_lr(runner, cfg)
        runner.train()


if __name__ == '__main__':
    leave(run_cli(main))
