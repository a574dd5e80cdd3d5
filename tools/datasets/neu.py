"""Convert the steel data NEU-DET and NEU-Seg: python tools/datasets/neu.py neu_det.tar neu_seg.tar --out data/neu."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also works without installation

from mae_plugin.datasets.neu import ensure_neu  # noqa: E402
from mae_plugin.utils.cli import run_cli  # noqa: E402


def main(argv: Sequence[str]) -> None:
    """Convert, and report what overlaps."""
    parser = argparse.ArgumentParser(description='Convert NEU-DET and NEU-Seg for pretraining and the three tasks.')
    parser.add_argument('det', help='NEU-DET: the tar, or the folder it was unpacked to')
    parser.add_argument('seg', help='NEU-Seg: the tar, or the folder it was unpacked to')
    parser.add_argument('--out', default='data/neu', help='the folder to make (default: %(default)s)')
    parser.add_argument('--debug', action='store_true', help='show the whole traceback of an error')
    args = parser.parse_args(argv)
    print(f'{ensure_neu(args.out, args.det, args.seg)} is ready')


if __name__ == '__main__':
    sys.exit(run_cli(main))
