"""Show what a pretraining checkpoint makes of images: original, what it sees, what it predicts, both together, PSNR.

    python tools/reconstruct.py photo.jpg --checkpoint work_dirs/mae_vit-base-p16_images/iter_100000.pth
    python tools/reconstruct.py folder --checkpoint mae_visualize_vit_large.pth --raw --mask-ratio 0.5

The model is that of the checkpoint. The mask of an image is a function of --seed and of the name of its file.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also works without installation

from mae_plugin.utils.cli import leave, run_cli  # noqa: E402


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('images', metavar='IMAGE_OR_FOLDER',
                        help='an image, or a folder, list, tar or zip, as for data_root of mae_plugin.UnlabelledImages')
    parser.add_argument('--checkpoint', required=True, metavar='FILE', help="of pretraining: ours, the authors' or "
                        "transformers', with the decoder")
    parser.add_argument('--out', default='reconstructions', metavar='FOLDER',
                        help='gets a picture for each image and index.html (default: %(default)s)')
    parser.add_argument('--mask-ratio', type=float, metavar='R', help='share of hidden patches; default: as trained')
    parser.add_argument('--masking', metavar='TYPE', help='another masking, such as RandomMasking; default: as trained')
    parser.add_argument('--seed', type=int, default=0, help='of the masks (default: %(default)s)')
    parser.add_argument('--max-images', type=int, default=16, metavar='N',
                        help='take the first N, by name (default: %(default)s)')
    parser.add_argument('--bands', type=int, nargs='+', metavar='CHANNEL',
                        help='one or three channels to show, from 0; default: the first')
    parser.add_argument('--device', help='such as cpu or cuda; default: a GPU if there is one')
    parser.add_argument('--config', metavar='CFG',
                        help='the config of the run, for a checkpoint that does not say what its model is')
    target = parser.add_mutually_exclusive_group()
    target.add_argument('--norm-pix', dest='norm_pix', action='store_true', default=None,
                        help='targets were normalised, for a file that does not say')
    target.add_argument('--raw', dest='norm_pix', action='store_false', help='targets were plain pixels, likewise')
    parser.add_argument('--debug', action='store_true', help='show the whole traceback of an error')
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Reconstruct."""
    args = parse_args(argv)
    if args.max_images < 1:
        raise ValueError(f'--max-images {args.max_images} is not at least 1')
    from mmengine.device import get_device
    from mmengine.logging import MMLogger

    from mae_plugin.utils.run_config import load_config
    from mae_plugin.visualization import reconstruction as drawing
    from mae_plugin.weights.rebuild import load_autoencoder
    MMLogger.get_current_instance().setLevel('WARNING')
    cfg = None if args.config is None else load_config(args.config)
    model = load_autoencoder(args.checkpoint, cfg, args.norm_pix, args.mask_ratio, args.masking)
    model.to(args.device or get_device())
    ratio = getattr(model.masking, 'mask_ratio', None)
    hidden = type(model.masking).__name__ + ('' if ratio is None else f', {ratio:.0%} of the patches hidden')
    normalised = drawing.is_normalised(model)
    card = model.loaded_from['card'] or {}
    data_range = drawing.data_range_of(card.get('config') or {} if cfg is None else cfg)
    caption = (f'{Path(args.checkpoint).name}: {hidden}, seed {args.seed}.'
               + (f' {drawing.NORMALISED}' if normalised else ''))
    out = Path(args.out)
    made: dict[str, float] = {}
    for path, sample in drawing.samples_of(args.images, model, args.seed, args.max_images):
        if not isinstance(sample, dict):
            print(f'skipped: {sample}', file=sys.stderr)
            continue
        pictures = drawing.reconstruct(model, [sample], args.bands, data_range)
        stem, number = Path(path).stem, 1
        while (name := f'{stem}.png' if number == 1 else f'{stem}-{number}.png') in made:  # of several folders
            number += 1
        out.mkdir(parents=True, exist_ok=True)
        drawing.panel(Path(path).name, pictures, normalised).to_image().save(out / name)
        made[name], = pictures.psnr
        print(f'{path}: {made[name]:.2f} dB', flush=True)
    if not made:
        raise ValueError(f'none of the first {args.max_images} images of {args.images} can be read: raise --max-images')
    drawing.write_index(out / 'index.html', made, caption)
    print(f'{caption}\nPSNR of predicted pixels, mean of {len(made)}: {sum(made.values()) / len(made):.2f} dB; '
          f'pictures in {out / "index.html"}')


if __name__ == '__main__':
    leave(run_cli(main))
