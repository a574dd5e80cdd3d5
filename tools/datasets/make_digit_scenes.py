"""Make the built-in scenes of handwritten digits: python tools/datasets/make_digit_scenes.py data/digit_scenes."""

import argparse
import sys

from mae_plugin.datasets.digit_scenes import PRESETS, ensure_digit_scenes


def main() -> str | None:
    """Make the scenes; return the message of what went wrong."""
    parser = argparse.ArgumentParser(description='Make scenes of handwritten digits on photographs, for every task.')
    parser.add_argument('out', help='the folder to make, e.g. data/digit_scenes')
    parser.add_argument('--preset', choices=PRESETS, default='default')
    for name in PRESETS['default']:
        help = ', '.join(f'{preset}: {settings[name]}' for preset, settings in PRESETS.items())
        parser.add_argument(f'--{name.replace("_", "-")}', type=int, metavar='N', default=argparse.SUPPRESS, help=help)
    args = vars(parser.parse_args())
    try:
        print(f'{ensure_digit_scenes(args.pop("out"), **args)} is ready')
    except (ValueError, ModuleNotFoundError, TimeoutError) as error:
        return f'make_digit_scenes.py: {error}'


if __name__ == '__main__':
    sys.exit(main())
