"""Convert the steel data NEU-DET and NEU-Seg: python tools/datasets/neu.py neu_det.tar neu_seg.tar --out data/neu."""

import argparse
import sys

from mae_plugin.datasets.neu import ensure_neu


def main() -> str | None:
    """Convert; return the message of what went wrong."""
    parser = argparse.ArgumentParser(description='Convert NEU-DET and NEU-Seg for pretraining and the three tasks.')
    parser.add_argument('det', help='NEU-DET: the tar, or the folder it was unpacked to')
    parser.add_argument('seg', help='NEU-Seg: the tar, or the folder it was unpacked to')
    parser.add_argument('--out', default='data/neu', help='the folder to make (default: %(default)s)')
    args = parser.parse_args()
    try:
        print(f'{ensure_neu(args.out, args.det, args.seg)} is ready')
    except (OSError, ValueError) as error:
        return f'neu.py: {error}'


if __name__ == '__main__':
    sys.exit(main())
