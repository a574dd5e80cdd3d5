"""Weighted kNN classification on the frozen features of a checkpoint: pretrained, fine-tuned, or the authors'.

    python tools/knn.py configs/classification/vit-base_in1k.py work_dirs/mae_vit-base-p16_in1k/iter_499200.pth

The config is one of classification: its backbone, its training images as the labelled ones, its validation images, and
the validation's transforms for both. Setting of DINO: 20 neighbours, temperature 0.07.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also works without installation

from mae_plugin.utils import run_config  # noqa: E402
from mae_plugin.utils.cli import leave, run_cli  # noqa: E402


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='a config of classification')
    parser.add_argument('checkpoint', help='the checkpoint; must hold every weight of the encoder')
    parser.add_argument('--k', type=int, default=20, help='neighbours that vote')
    parser.add_argument('--temperature', type=float, default=0.07, help='the lower, the more the nearest count')
    parser.add_argument(
        '--feature', choices=['cls_token', 'avg_featmap'], default='cls_token',
        help='the class token or the mean of the patch tokens, after the final norm; a checkpoint that was fine-tuned '
        'on their mean (fc_norm) gives that')
    parser.add_argument(
        '--cfg-options', nargs='+', action='extend', default=[], metavar='KEY=VALUE',
        help='change settings of the config, as in tools/train.py')
    parser.add_argument('--debug', action='store_true', help='show the whole traceback of an error')
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Evaluate."""
    args = parse_args(argv)
    cfg = run_config.load_config(args.config, args.cfg_options)
    accuracy = evaluate(cfg, args)
    print(f'kNN, k={args.k}: {accuracy:.2f} % top-1')


def evaluate(cfg, args: argparse.Namespace) -> float:
    """Top-1 accuracy in percent."""
    from mmengine.device import get_device
    from mmengine.registry import MODELS, init_default_scope
    from torch import nn

    from mae_plugin.datasets.prepare import prepare_data
    from mae_plugin.engine.knn import build_loader, knn_accuracy
    from mae_plugin.weights.checkpoint import read_weights
    if cfg.get('default_scope') != 'mmpretrain':
        raise ValueError(f'{args.config} is no config of classification, which names labelled images: give one of '
                         'configs/classification')
    init_default_scope(cfg.default_scope)
    pooled = 'backbone.fc_norm.weight' in read_weights(args.checkpoint).state
    start = {**(cfg.model.backbone.get('init_cfg') or {}), 'type': 'mae_plugin.MAEPretrained',
             'checkpoint': args.checkpoint, 'fine_tuned': True}
    model = nn.Module()
    model.data_preprocessor = MODELS.build(cfg.model.data_preprocessor)
    model.backbone = MODELS.build(
        {**cfg.model.backbone, 'out_type': 'avg_featmap' if pooled else 'raw', 'init_cfg': start})
    model.backbone.init_weights()
    model.to(get_device())
    prepare_data(cfg)
    query = cfg.val_dataloader
    labelled = cfg.train_dataloader.dataset
    innermost = labelled
    while 'dataset' in innermost:  # of wrappers, as LabelShare
        innermost = innermost.dataset
    innermost.pipeline = query.dataset.pipeline
    bank = dict(query, dataset=labelled)
    return knn_accuracy(model, *map(build_loader, (bank, query)), k=args.k, temperature=args.temperature,
                        feature=args.feature)


if __name__ == '__main__':
    leave(run_cli(main))
