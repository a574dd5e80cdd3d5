"""Decode the images of DATA_ROOT once into STORE, a folder that UnlabelledImages reads by mode='cached'.

    python tools/cache_images.py data/imagenet/train /fast_disk/imagenet_store

Interrupted and started again, it goes on where it was; docs/data.md says when a store is worth its space.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also works without installation

from mae_plugin.utils.cli import leave, run_cli  # noqa: E402


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data_root', metavar='DATA_ROOT', help='the images: whatever UnlabelledImages takes')
    parser.add_argument('store', metavar='STORE', help='a new folder, or that of a store to go on with')
    parser.add_argument(
        '--short-side', type=int, default=512, metavar='PIXELS', help='shrink images to have a shorter side of at most '
        'that; 0 keeps every pixel; default: 512, with which no crop for 224 pixels loses detail')
    parser.add_argument('--format', choices=['raw', 'jpeg'], default='raw', help='raw: pixels, nothing is decoded in '
                        'training; jpeg: JPEGs that need no shrinking as they are, all else encoded')
    parser.add_argument('--quality', type=int, default=95, help='of what is encoded with --format jpeg; default: 95')
    parser.add_argument('--channels', type=int, choices=[1, 3], default=3, help='3 for RGB, 1 for grey')
    parser.add_argument('--extensions', nargs='+', metavar='EXTENSION', help='as in UnlabelledImages')
    parser.add_argument('--data-prefix', help='as in UnlabelledImages')
    parser.add_argument('--workers', type=int, help='processes; default: one for each core')
    parser.add_argument('--max-bad', type=float, default=0.01, metavar='SHARE', help='share of the images, in [0, 1], '
                        'that may be unreadable; they are listed in STORE/bad_images.csv; default: 0.01')
    parser.add_argument('--debug', action='store_true', help='show the whole traceback of an error')
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Build the store."""
    args = parse_args(argv)
    if args.workers is not None and args.workers < 1:
        raise ValueError(f'--workers {args.workers} is not at least 1')
    from tqdm import tqdm  # after --help, for it takes time

    from mae_plugin.datasets.reader import EXTENSIONS
    from mae_plugin.datasets.store import ImageStore, StoreBuilder
    from mae_plugin.datasets.unlabelled import normalized
    extensions = normalized(args.extensions or EXTENSIONS)
    builder = StoreBuilder(args.data_root, args.store, extensions, args.data_prefix, args.channels, args.format,
                           args.short_side, args.quality)
    if builder.finished:
        print(f'{builder.root} is finished; nothing to do')
    else:
        if builder.done:
            print(f'{builder.root}: {builder.done} of {builder.total} images are there, going on')
        # In a log, a line a minute.
        with tqdm(total=builder.total, initial=builder.done, unit=' images',
                  mininterval=0.2 if sys.stderr.isatty() else 60) as bar:
            builder.build(args.workers or len(os.sched_getaffinity(0)), args.max_bad,
                          lambda done: bar.update(done - bar.n))
        if builder.bad:
            print(f'{builder.bad} of {builder.total} images cannot be read and are left out: see '
                  f'{builder.root}/bad_images.csv')
    store = ImageStore(builder.root)
    size = sum(file.stat().st_size for file in builder.root.iterdir())
    print(f'{builder.root}: {builder.total} images, {size / 1e9:.3g} GB; {store.describe()}')
    others = dict(extensions=args.extensions, data_prefix=args.data_prefix,
                  channels=args.channels if args.channels != 3 else None)
    settings = dict(data_root=args.data_root, mode='cached', cache=str(builder.root),
                    **{name: value for name, value in others.items() if value is not None})
    print(f'in the config: {", ".join(f"{name}={value!r}" for name, value in settings.items())}')


if __name__ == '__main__':
    leave(run_cli(main))
