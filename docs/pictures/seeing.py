"""Make docs/images/seeing.png: pretrain on the built-in scenes for 3,000 iterations, and take the hook's last picture.

    python docs/pictures/seeing.py [WORK_DIR]

Minutes on two cores. A WORK_DIR that holds the finished run is used as it is.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
ITERATIONS = 3000

with TemporaryDirectory() as temporary:
    work_dir = Path(sys.argv[1] if len(sys.argv) > 1 else temporary).resolve()
    pattern = f'*/vis_data/vis_image/reconstruction_{ITERATIONS}.png'
    if not any(work_dir.glob(pattern)):
        subprocess.run(
            [sys.executable, 'tools/train.py', 'configs/pretrain/mae_vit-mini-p8_digits.py', '--work-dir', work_dir,
             '--cfg-options', f'train_cfg.max_iters={ITERATIONS}', f'train_cfg.val_interval={ITERATIONS}'],
            cwd=ROOT, check=True)
    picture = Image.open(next(work_dir.glob(pattern)))
    picture.quantize(256, dither=Image.Dither.NONE).save(ROOT / 'docs/images/seeing.png', optimize=True)
