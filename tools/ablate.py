"""Run ablations: the same stages for each of their cells, a table and a plot; see mae_plugin/utils/ablation.py.

    python tools/ablate.py configs/ablations/decoder_depth.py

A second call goes on where the first one ended. What a cell shares with another ablation is run once.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also works without installation

from mae_plugin.utils.cli import keep_traceback_in, nearest, run_cli  # noqa: E402


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', metavar='config', help='ablations, as configs/ablations/NAME.py')
    parser.add_argument('--work-dir', help='gets runs/ and a folder for each ablation; default: as the config says')
    parser.add_argument('--size', help='one of the sizes of the config; default: the first, cpu in ours')
    parser.add_argument('--seeds', type=int, default=1, metavar='N', help='runs of each cell, with the seeds from 0')
    parser.add_argument('--only', nargs='+', action='extend', default=[], metavar='CELL', help='run only these cells')
    parser.add_argument(
        '--cfg-options', nargs='+', action='extend', default=[], metavar='STAGE.KEY=VALUE',
        help='change settings of a stage in all cells, as --cfg-options of tools/train.py')
    parser.add_argument('--list', action='store_true', help='show the cells and what is there of them only')
    parser.add_argument('--dry-run', action='store_true', help='show the cells and the commands only')
    parser.add_argument('--debug', action='store_true', help='show the whole traceback of an error')
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Plan all, run all, and report."""
    args = parse_args(argv)
    from mae_plugin.utils.ablation import Ablation
    from mae_plugin.utils.run_config import load_config
    ablations = [Ablation(load_config(config).to_dict(), config, args.work_dir, args.size, args.seeds, args.cfg_options)
                 for config in args.configs]
    cells = [cell for ablation in ablations for cell in ablation.cells]
    for name in args.only:
        if name not in cells:
            raise ValueError(f'--only {name!r} is no cell; there are {", ".join(nearest(name, cells) or cells)}')
    for ablation in ablations:
        print(ablation.plan(args.only), flush=True)
        if args.dry_run:
            print('\n'.join(ablation.commands(args.only)))
    if args.list or args.dry_run:
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the running stage is ended, too
    for ablation in ablations:
        keep_traceback_in(ablation.folder)
        ablation.run(args.only)
        print(f'\n{ablation.markdown(ablation.rows())}\n{ablation.folder}/table.csv, table.md, plot.svg', flush=True)
    failures = [f'{ablation.title}: {cell} (seed {seed}): {reason}'
                for ablation in ablations for (cell, seed), reason in ablation.failures.items()]
    if failures:
        raise ValueError(f'{len(failures)} cells failed, and another call tries them again: {"; ".join(failures)}')


if __name__ == '__main__':
    sys.exit(run_cli(main))
