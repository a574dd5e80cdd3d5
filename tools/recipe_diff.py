"""List every difference of a config from a published recipe, with what is known of its effect.

It reads this plugin's configs and those of mmpretrain, mmdet and mmseg. The exit code is 0 for none, 1 for some, and 2
for an error.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also works without installation

from mae_plugin.utils import run_config  # noqa: E402
from mae_plugin.utils.cli import run_cli  # noqa: E402


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', nargs='?', help='the config file')
    parser.add_argument('--recipe', help="name of the published recipe; default: the config's own, recipe.name")
    parser.add_argument(
        '--batch', type=int, metavar='N', help="images of a step over all processes; default: the config's "
        'recipe.batch_size, and for a config without one the published batch, times accumulative_counts')
    parser.add_argument('--list', action='store_true', help='list the names of the published recipes')
    parser.add_argument('--json', action='store_true', help='print the differences as JSON')
    parser.add_argument('--cfg-options', nargs='+', action='extend', default=[], metavar='KEY=VALUE',
                        help='change settings of the config, as for tools/train.py')
    parser.add_argument('--debug', action='store_true', help='show the whole traceback of an error')
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Compare; returns the number of differences."""
    args = parse_args(argv)
    from mae_plugin.recipes import RECIPES, compare, table
    if args.list:
        print('\n'.join(sorted(RECIPES)))
        return 0
    if not args.config:
        raise ValueError('give a config, or --list for the names of the published recipes')
    cfg = run_config.load_config(args.config, args.cfg_options)
    name = args.recipe or (cfg.get('recipe') or {}).get('name')
    if name is None:
        raise ValueError(f'{args.config} does not name a published recipe (recipe.name): give one of --list '
                         'by --recipe')
    found = compare(cfg, name, args.batch)
    if args.json:
        print(json.dumps([difference._asdict() for difference in found], indent=2, default=str))
    elif found:
        columns = shutil.get_terminal_size(fallback=(160, 24)).columns
        print(f'{args.config} differs from {name} in {len(found)} facts:\n\n{table(found, columns)}')
    else:
        print(f'{args.config} is {name}: no difference')
    return len(found)


def exit_code(argv: Sequence[str] | None = None) -> int:
    """0 without a difference, 1 with some, 2 after an error."""
    found = []
    failed = run_cli(lambda arguments: found.append(main(arguments)), argv)
    return 2 if failed == 1 else failed or min(found[0], 1)


if __name__ == '__main__':
    sys.exit(exit_code())
