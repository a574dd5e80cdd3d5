"""Convert weights of a plain ViT, its masked autoencoder or a model fine-tuned from it: IN, of any format, to OUT."""

import argparse
import ast
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also works without installation

from mae_plugin.utils.cli import leave, run_cli  # noqa: E402


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('source', metavar='IN', help='a file of any of the formats, which is recognised, a folder of '
                        "transformers', or timm://NAME")
    parser.add_argument('target', metavar='OUT', help='the new file, .pth or .safetensors; for huggingface also a '
                        'folder, for from_pretrained')
    parser.add_argument('--to', required=True, metavar='FORMAT', help='the format of OUT: plugin (ours), authors, '
                        'timm, huggingface, mmpretrain, mmseg, mmdet or detectron2')
    parser.add_argument('--encoder-only', action='store_true', help='leave out the decoder and the heads')
    parser.add_argument('--overwrite', action='store_true', help='replace OUT if it exists')
    parser.add_argument(
        '--facts', nargs='+', action='extend', default=[], metavar='KEY=VALUE', help='what the tensors do not tell and '
        'the file does not say: mean and std in pixel values, 0 to 255, num_heads, decoder_num_heads, norm_pix, '
        'mask_ratio; a folder needs them')
    parser.add_argument('--debug', action='store_true', help='show the whole traceback of an error')
    return parser.parse_args(argv)


def parse_fact(text: str) -> tuple[str, object]:
    """``KEY=VALUE`` with a value as Python writes it.

    Raises:
        ValueError: It has another form.
    """
    key, _, value = text.partition('=')
    try:
        return key, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        raise ValueError(f'--facts {text}: write num_heads=12, mean=[123.675,116.28,103.53] or norm_pix=True') from None


def main(argv: Sequence[str]) -> None:
    """Convert."""
    args = parse_args(argv)
    from mae_plugin.weights.convert import convert, has_card  # after --help, for it imports torch
    facts = dict(map(parse_fact, args.facts))
    weights = convert(args.source, args.target, args.to, args.encoder_only, args.overwrite, facts)
    print(f'{args.source} ({weights.format}, {weights.kind}) -> {args.target} ({args.to}): '
          f'{len(weights.state)} tensors, read back and equal')
    if len(weights.card) > 1 and not has_card(args.target, args.to):  # more than what it was converted from
        print(f'{args.target} holds tensors alone, as {args.to} wants a {Path(args.target).suffix}: mean, std and '
              'number of heads are not in it; a .safetensors keeps them')


if __name__ == '__main__':
    leave(run_cli(main))
