"""Fit the principal components of the patches of a config's training images, for mae_plugin.PCATarget.

    python tools/fit_pca.py configs/pretrain/mae_vit-base-p16_in1k.py --out work_dirs/pca_in1k.npz

The images are cropped, flipped and normalised as in training. The same command writes the same numbers.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also works without installation

from mae_plugin.utils import run_config  # noqa: E402
from mae_plugin.utils.cli import leave, run_cli  # noqa: E402


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='a config of pretraining')
    parser.add_argument('--out', required=True, metavar='FILE.npz', help='where mean, components and variances go')
    parser.add_argument('--images', type=int, default=10_000, metavar='N', help='crops to look at; default: 10000')
    parser.add_argument('--cfg-options', nargs='+', action='extend', default=[], metavar='KEY=VALUE',
                        help='change settings of the config, as in tools/train.py')
    parser.add_argument('--debug', action='store_true', help='show the whole traceback of an error')
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Fit and write."""
    args = parse_args(argv)
    if args.images < 1 or Path(args.out).suffix != '.npz':
        raise ValueError(f'--images {args.images} --out {args.out}: give at least one image and a file named .npz')
    cfg = run_config.load_config(args.config, args.cfg_options)
    import numpy as np  # after --help, for what follows takes seconds
    from timm.layers import to_2tuple

    from mae_plugin.models.pca_target import fit_pca
    if cfg.model.get('type') != 'mae_plugin.MaskedAutoencoder':
        raise ValueError(f'{args.config} is of a {cfg.model.get("type")}: give a config of pretraining, of a '
                         'mae_plugin.MaskedAutoencoder')
    patch_size, facts = to_2tuple(cfg.model.backbone.patch_size), {}
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)  # before the work
    result = fit_pca(_images(cfg, args.images, facts), patch_size)
    np.savez(out, **result, **facts, patch_size=patch_size)
    shares = result['eigenvalues'].cumsum() / result['eigenvalues'].sum()
    counts = [count for count in (1, 16, 96) if count < len(shares)]
    print(f'{out}: {len(shares)} components of patches of {patch_size[0]}x{patch_size[1]}; of their variance '
          + ', '.join(f'the first {count} have {100 * shares[count - 1]:.1f} %' for count in counts))
    print(f"in the config: target=dict(type='mae_plugin.PCATarget', components=96, basis='{out}')")


def _images(cfg, count: int, facts: dict) -> Iterator:
    """Batches of normalised training images; ``facts`` gets how they are normalised."""
    from mmengine.device import get_device
    from mmengine.registry import MODELS
    from mmengine.runner import Runner

    from mae_plugin.datasets.prepare import prepare_data
    prepare_data(cfg)
    run_config.fill_in_size(cfg, cfg.train_dataloader.dataset)
    loader = Runner.build_dataloader(dict(cfg.train_dataloader, persistent_workers=False, pin_memory=False), seed=0)
    preprocessor = MODELS.build(cfg.model.data_preprocessor).to(get_device())
    mean, std = (getattr(preprocessor, name).flatten().tolist() for name in ('mean', 'std'))
    facts.update(in_chans=len(mean), pixel_mean=mean, pixel_std=std)
    for batch in islice(loader, -(-count // loader.batch_size)):  # the stream has no end
        imgs = preprocessor(batch, False)['inputs'][:count]
        count -= len(imgs)
        yield imgs


if __name__ == '__main__':
    leave(run_cli(main))
