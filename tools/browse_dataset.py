"""Show what a pretraining's model will see: the samples of its config in the order of training, masks drawn on.

    python tools/browse_dataset.py configs/pretrain/mae_vit-base-p16_images.py --num 32

No checkpoint is needed and no model is built: images, crops, flips, masks and corruptions only, those of the first
epoch as tools/train.py will draw them.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also works without installation

from mae_plugin.utils.cli import leave, run_cli  # noqa: E402

# Where the libraries have a tool of this name.
_LIBRARIES = dict(mmpretrain='tools/visualization/browse_dataset.py', mmdet='tools/analysis_tools/browse_dataset.py',
                  mmseg='tools/misc/browse_dataset.py')


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='a config of pretraining')
    parser.add_argument('--out', '--output-dir', default='browse', metavar='FOLDER',
                        help='gets SPLIT.png, all samples on one sheet (default: %(default)s)')
    parser.add_argument('--num', '--show-number', type=int, default=16, metavar='N',
                        help='how many samples (default: %(default)s)')
    parser.add_argument('--split', '--phase', choices=['train', 'val'], default='train',
                        help='the samples of train_dataloader or val_dataloader (default: %(default)s)')
    parser.add_argument('--bands', type=int, nargs='+', metavar='CHANNEL',
                        help='one or three channels to show, from 0; default: the first')
    parser.add_argument('--cfg-options', nargs='+', action='extend', default=[], metavar='KEY=VALUE',
                        help='change settings of the config, as in tools/train.py')
    parser.add_argument('--debug', action='store_true', help='show the whole traceback of an error')
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Draw."""
    args = parse_args(argv)
    if args.num < 1:
        raise ValueError(f'--num {args.num} is not at least 1')
    from mae_plugin.utils.run_config import load_config
    cfg = load_config(args.config, args.cfg_options)
    if cfg.model.type != 'mae_plugin.MaskedAutoencoder':
        scope = cfg.get('default_scope')
        tool = f': {scope} has a tool for it, {_LIBRARIES[scope]}' if scope in _LIBRARIES else ''
        raise ValueError(f'{args.config} is no config of pretraining, whose images this tool shows{tool}')
    if cfg.get(f'{args.split}_dataloader') is None:
        raise ValueError(f'{args.config} has no {args.split}_dataloader')

    from mae_plugin.visualization.browse import browse
    sheet, lines = browse(cfg, args.split, args.num, args.bands)
    print('\n'.join(lines))
    file = Path(args.out, f'{args.split}.png')
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.to_image().save(file)
    print(f'{len(lines)} samples in {file}')


if __name__ == '__main__':
    leave(run_cli(main))
