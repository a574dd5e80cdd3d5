"""The demo: pretrain on built-in images, then classify, detect and segment, each also from scratch, and a report."""

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
    parser.add_argument('--quick', action='store_true', help='a fraction of the iterations: shows that it works')
    parser.add_argument('--work-dir', help='gets the runs, the pictures and the page; default: as the chain says')
    parser.add_argument('--report-only', action='store_true', help='run nothing, show what there is')
    parser.add_argument('--rerun', action='store_true',
                        help='run stages again whose input has changed; what they made is kept under another name')
    parser.add_argument('--debug', action='store_true', help='show the whole traceback of an error')
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Show the plan, run what is not finished, and report."""
    args = parse_args(argv)
    from mae_plugin.utils.chain import Chain, read_stages
    from mae_plugin.utils.run_config import load_config
    source = f'configs/chains/{"demo_quick" if args.quick else "demo"}.py'
    cfg = load_config(source).to_dict()
    work_dir = args.work_dir or cfg['work_dir']
    keep_traceback_in(work_dir)
    chain = Chain(read_stages(cfg.get('stages'), (), source), work_dir, rerun=args.rerun)
    if not args.report_only:
        print(plan(chain, cfg.get('minutes', {})), flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the running stage is ended, too
        chain.run()
    from mmengine.logging import MMLogger

    from mae_plugin.visualization.report import make_report
    from mae_plugin.visualization.results import compare, pretraining_summary, read_runs, results_table, verdicts
    MMLogger.get_current_instance().setLevel('WARNING')
    print('drawing the pictures and the page ...', flush=True)
    page = make_report(chain)
    runs = read_runs(chain)
    rows = compare(runs)
    print(f'\n{results_table(rows)}\n\n{pretraining_summary(runs)}')
    for task, sentence in verdicts(rows).items():
        print(f'{task.capitalize()}. {sentence}')
    print(f'\n{page}, {", ".join(sorted(file.name for file in page.parent.glob("*.png")))}')


def plan(chain, minutes: dict[str, float]) -> str:
    """What will be done and what it costs; ``minutes`` are what the chain expects of each stage on two cores."""
    from mae_plugin.visualization.results import read_runs, text_table
    rows = [('stage', 'state', 'iterations', 'x batch', '= images', 'minutes')]
    for run in read_runs(chain):
        iterations, batch = run.budget
        rows.append((run.name, chain.state(chain.stages[run.name]), f'{iterations:,}', f'x {batch}',
                     f'= {run.images:>7,}', f'{minutes[run.name]:.1f}' if run.name in minutes else '?'))
    rows.append(('in all', '', '', '', '', f'{sum(minutes.values()):.1f}'))
    return f'{text_table(rows, left=2)}\nMinutes are what to expect of two cores; what is finished takes none.'


if __name__ == '__main__':
    sys.exit(run_cli(main))
