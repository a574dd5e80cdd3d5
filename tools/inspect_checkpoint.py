"""Say what a checkpoint is: model, sizes, encoder and decoder, whose names it has, positions, where it comes from."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also works without installation

from mae_plugin.utils.cli import leave, run_cli  # noqa: E402


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('file', metavar='FILE', help='a checkpoint of any format, or timm://NAME')
    parser.add_argument('--json', action='store_true', help='print it as JSON')
    parser.add_argument('--debug', action='store_true', help='show the whole traceback of an error')
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Inspect."""
    args = parse_args(argv)
    from mae_plugin.weights.inspection import inspect_checkpoint  # after --help, for it imports torch
    facts = inspect_checkpoint(args.file)
    if args.json:
        print(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f'{name:{width}}  {value}')


if __name__ == '__main__':
    leave(run_cli(main))
