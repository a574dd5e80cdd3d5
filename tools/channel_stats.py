"""Mean and standard deviation of each channel of the images of a config or a folder, for data_preprocessor.

    python tools/channel_stats.py configs/pretrain/mae_vit-small-p16_images.py
    python tools/channel_stats.py data/tiles --mode array --channels 13 --nodata 0

Whole images are read, each once; pixels without data do not count. Of a config it is the training data set.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also works without installation

from mae_plugin.utils import run_config  # noqa: E402
from mae_plugin.utils.cli import leave, run_cli  # noqa: E402

_NAMED = 10  # images that cannot be read


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('images', metavar='CONFIG_OR_FOLDER', help='a config (.py), or what UnlabelledImages reads')
    parser.add_argument('--mode', choices=['exact', 'fast', 'array'], help="as in UnlabelledImages; default: 'exact'")
    parser.add_argument('--channels', type=int, help='as in UnlabelledImages; default: 3')
    parser.add_argument('--bands', type=int, nargs='+', help="channels of the file, counted from 0, with mode 'array'")
    parser.add_argument('--nodata', help="value of pixels without data, or 'nan', with mode 'array'")
    parser.add_argument('--max-images', type=int, help='take only so many, from all over the data set')
    parser.add_argument('--workers', type=int, default=len(os.sched_getaffinity(0)),
                        help='processes; default: one for each core')
    parser.add_argument('--out', metavar='FILE.json', help='also write mean, std, count of values, and what is bad')
    parser.add_argument('--cfg-options', nargs='+', action='extend', default=[], metavar='KEY=VALUE',
                        help='change settings of the config, as in tools/train.py')
    parser.add_argument('--debug', action='store_true', help='show the whole traceback of an error')
    return parser.parse_args(argv)


def settings_of(args: argparse.Namespace) -> dict:
    """Arguments of ``UnlabelledImages``: those of the config, if it is one, changed by the command line's."""
    settings = dict(data_root=args.images)
    if args.images.endswith('.py'):
        from mae_plugin.datasets.prepare import prepare_data
        cfg = run_config.load_config(args.images, args.cfg_options)
        settings = dict(cfg.train_dataloader.dataset)
        kind = settings.pop('type', None)
        if kind != 'mae_plugin.UnlabelledImages':
            raise ValueError(f'{args.images} has a train_dataloader.dataset of {kind}, not '
                             'mae_plugin.UnlabelledImages: name the folder of the images')
        prepare_data(cfg)
    given = dict(mode=args.mode, channels=args.channels, max_images=args.max_images)
    arrays = {name: value for name in ('bands', 'nodata') if (value := getattr(args, name)) is not None}
    if arrays:
        given['arrays'] = {**(settings.get('arrays') or {}), **arrays}
    settings.update({name: value for name, value in given.items() if value is not None})
    return dict(settings, pipeline=[], repeats=1, weights=None)


def main(argv: Sequence[str]) -> None:
    """Print the lines for the config."""
    args = parse_args(argv)
    if args.workers < 0:
        raise ValueError(f'--workers {args.workers} is below 0')
    if args.out:
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)  # before the work, which may take hours
    from tqdm import tqdm  # after --help, for it takes time

    import mae_plugin.datasets.channel_stats as stats
    images = stats.UnlabelledImages(**settings_of(args))
    bad, total = [], None
    for total, unreadable in tqdm(stats.channel_stats(images, args.workers), total=len(images), unit=' images',  # noqa: B007
                                  mininterval=0.2 if sys.stderr.isatty() else 60):
        bad += [unreadable] if unreadable else []
    if total is None or not total.count.all():
        raise ValueError(f'{args.images}: there is a channel without a single value in the {len(images) - len(bad)} '
                         'images that could be read')
    for _, reason in bad[:_NAMED]:
        print(reason)
    numbers = {name: [float(f'{value:.6g}') for value in values] for name, values in
               dict(mean=total.mean, std=total.std).items()}
    print(f'{len(images) - len(bad)} images, {total.count.max():.0f} pixels with data, {len(bad)} images could not be '
          f'read; for the config:\nmodel = dict(data_preprocessor=dict(\n    mean={numbers["mean"]},\n'
          f'    std={numbers["std"]}))')
    if args.out:
        Path(args.out).write_text(json.dumps(dict(
            numbers, count=total.count.astype(int).tolist(), images=len(images) - len(bad), bad_images=bad),
            indent=1) + '\n')


if __name__ == '__main__':
    leave(run_cli(main))
