"""Make the built-in scenes of handwritten digits: python tools/datasets/make_digit_scenes.py data/digit_scenes."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also works without installation

from mae_plugin.datasets.digit_scenes import PRESETS, ensure_digit_scenes  # noqa: E402
from mae_plugin.utils.cli import run_cli  # noqa: E402


def main(argv: Sequence[str]) -> None:
    """Make the scenes."""
    parser = argparse.ArgumentParser(description='Make scenes of handwritten digits on photographs, for every task.')
    parser.add_argument('out', help='the folder to make, e.g. data/digit_scenes')
    parser.add_argument('--preset', choices=PRESETS, default='default')
    for name in PRESETS['default']:
        values = ', '.join(f'{preset}: {settings[name]}' for preset, settings in PRESETS.items())
        option = f'--{name.replace("_", "-")}'
        parser.add_argument(option, type=int, metavar='N', default=argparse.SUPPRESS, help=values)
    parser.add_argument('--debug', action='store_true', help='show the whole traceback of an error')
    settings = vars(parser.parse_args(argv))
    settings.pop('debug')
    print(f'{ensure_digit_scenes(settings.pop("out"), **settings)} is ready')


if __name__ == '__main__':
    sys.exit(run_cli(main))
