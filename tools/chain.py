"""Run a chain of stages: pretrain, then start the tasks from its checkpoint; see mae_plugin/utils/chain.py."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also works without installation

from mae_plugin.utils.cli import keep_traceback_in, run_cli  # noqa: E402


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('chain', help='the chain, as configs/chains/NAME.py')
    parser.add_argument('--work-dir', help='gets a folder for each stage and chain.json; default: as the chain says')
    parser.add_argument('--gpus', type=int, default=0, metavar='N',
                        help='train each stage with N processes; default: what the chain says, or one')
    parser.add_argument('--jobs', type=int, default=1, metavar='N',
                        help='train N stages at a time, each on a GPU of its own or, without any, on a share of cores')
    parser.add_argument(
        '--cfg-options', nargs='+', action='extend', default=[], metavar='STAGE.KEY=VALUE',
        help='change settings of the config of a stage, as --cfg-options of tools/train.py')
    parser.add_argument('--rerun', action='store_true',
                        help='run stages again whose input has changed; what they made is kept under another name')
    parser.add_argument('--dry-run', action='store_true', help='show the plan and the commands only')
    parser.add_argument('--debug', action='store_true', help='show the whole traceback of an error')
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Plan, run, and report."""
    args = parse_args(argv)
    from mae_plugin.utils.chain import Chain
    from mae_plugin.utils.run_config import load_config
    from mae_plugin.utils.study import read_chain, work_dir_of
    cfg = load_config(args.chain).to_dict()
    stages = read_chain(cfg, args.cfg_options, args.chain)
    work_dir = args.work_dir or work_dir_of(cfg, args.chain)
    keep_traceback_in(work_dir)
    chain = Chain(stages, work_dir, args.gpus, args.rerun)
    print(chain.plan(), flush=True)
    if args.dry_run:
        print('\n'.join(chain.commands()))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the running stage is ended, too
    chain.run(args.jobs)
    print(chain.summary())


if __name__ == '__main__':
    sys.exit(run_cli(main))
