"""Measure how fast pretraining is: tables, JSON and a picture."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also works without installation

from mae_plugin.utils import run_config  # noqa: E402
from mae_plugin.utils.cli import leave, run_cli  # noqa: E402


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    step = commands.add_parser(
        'step', help='training steps of a config and of other implementations, in turns',
        description='Training steps of a config and of other implementations, in turns, on random images. A contender '
        'that does not compute what the plain path computes gets no number.')
    step.add_argument('config', help='a pretraining config')
    step.add_argument('--batch', type=int, nargs='+', help="batch sizes; default: the config's")
    step.add_argument('--rounds', type=int, default=5, help='turns of each contender (default: 5)')
    step.add_argument('--steps', type=int, help='steps of a turn (default: 30 on a GPU, 3 on the CPU)')
    step.add_argument(
        '--dtype', nargs='+', choices=['float32', 'bfloat16', 'float16'], default=[None],
        help="precisions of every contender; default: the config's, and of others as shipped")
    step.add_argument(
        '--against', nargs='+', default=[], metavar='CONTENDER', help="others' implementations: mmpretrain as shipped, "
        'mmpretrain-merged with few parameter groups')
    step.add_argument(
        '--authors', metavar='PATH', help="a clone of the authors' repository: their step as shipped, and, as "
        'authors-port, with fused attention and without loss scaling')
    step.add_argument(
        '--variants', nargs='+', default=[], metavar='NAME', help='the config with techniques switched on or off: '
        'compile, no-compile, fast, fast-compile, plain, plain-head, or NAME:key=value,key=value; any other name lists '
        'all')
    step.add_argument('--curves', type=int, default=0, metavar='N', help='also compare loss curves of N steps')
    step.add_argument('--gate-batch', type=int, default=8, help='batch of the parity gate (default: 8)')
    step.add_argument('--gate-only', action='store_true', help='only the parity gate')
    step.add_argument('--loop', action='store_true', help='also the step inside the training loop')
    step.add_argument('--name', default='step', help='name of the files (default: step)')
    _add_common(step)
    return parser.parse_args(argv)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--cfg-options', nargs='+', action='extend', default=[], metavar='KEY=VALUE',
                        help='change settings of the config, as for tools/train.py')
    parser.add_argument('--out', help='folder for JSON, Markdown and picture; default: only print')
    parser.add_argument('--debug', action='store_true', help='show the whole traceback of an error')


def step(args: argparse.Namespace) -> None:
    """Compare training steps."""
    import torch

    from mae_plugin.benchmark import report
    from mae_plugin.benchmark.session import Spec
    from mae_plugin.benchmark.step import measure
    for name in ('batch', 'rounds', 'steps', 'curves', 'gate_batch'):
        values = getattr(args, name) or []
        if any(value < 1 for value in (values if isinstance(values, list) else [values])):
            raise ValueError(f'--{name.replace("_", "-")} {values}: at least 1 is needed')
    cfg = run_config.load_config(args.config, args.cfg_options)
    variants = [('plugin', variant) for variant in ('', *args.variants)]
    others = [(name, '') for name in (*args.against, *(('authors', 'authors-port') if args.authors else ()))]
    specs = [Spec(project, dtype, variant, args.authors) for project, variant in (*variants, *others)
             for dtype in args.dtype]
    result = dict(command=sys.argv[1:], config=args.config, machine=report.machine())
    result |= measure(
        cfg, specs, args.batch or [cfg.train_dataloader.batch_size], args.rounds,
        args.steps or (30 if torch.cuda.is_available() else 3), args.curves, args.gate_batch, args.gate_only, args.loop,
        say=lambda text: print(text, file=sys.stderr, flush=True))
    print(report.markdown(result))
    if args.out:
        report.write(result, Path(args.out), args.name)


def main(argv: Sequence[str]) -> None:
    """Measure."""
    args = parse_args(argv)
    dict(step=step)[args.command](args)


if __name__ == '__main__':
    leave(run_cli(main))
