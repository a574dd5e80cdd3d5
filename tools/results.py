"""What a chain with a study has reached: tables, a plot, small logs of every run, and one page with pictures."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also works without installation

from mae_plugin.utils.cli import run_cli  # noqa: E402


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('chain', help='the chain, as configs/chains/neu_steel_tiny.py')
    parser.add_argument('--work-dir', help="the chain's; default: as the chain says")
    parser.add_argument('--out', help='the folder to write; default: results in the work directory')
    parser.add_argument(
        '--cfg-options', nargs='+', action='extend', default=[], metavar='STAGE.KEY=VALUE',
        help='the changes that the chain was run with')
    parser.add_argument('--no-page', action='store_true', help='only tables, plot and logs: without loading a model')
    parser.add_argument('--debug', action='store_true', help='show the whole traceback of an error')
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Write what there is."""
    args = parse_args(argv)
    from mae_plugin.utils.chain import Chain
    from mae_plugin.utils.run_config import load_config
    from mae_plugin.utils.study import read_chain, work_dir_of
    from mae_plugin.visualization.study_files import write_study
    cfg = load_config(args.chain).to_dict()
    chain = Chain(read_chain(cfg, args.cfg_options, args.chain), args.work_dir or work_dir_of(cfg, args.chain))
    if not chain.record:
        raise FileNotFoundError(f'{chain.work_dir} holds no chain.json: nothing was run there that could be shown')
    folder = Path(args.out) if args.out else chain.work_dir / 'results'
    print(write_study(chain, folder, args.chain))
    print(f'{folder}/results.md, results.csv, runs.csv, label_efficiency.svg, logs, configs')
    if not args.no_page:
        from mmengine.logging import MMLogger

        from mae_plugin.visualization.report import make_report
        MMLogger.get_current_instance().setLevel('WARNING')
        print(make_report(chain))


if __name__ == '__main__':
    sys.exit(run_cli(main))
