"""Steel surfaces: pretrain on 4,227 unlabelled pictures, then classify, detect and segment defects.

    python tools/chain.py configs/chains/neu_steel.py

NEU-DET and NEU-Seg are converted first, from data/neu_det.tar and data/neu_seg.tar; tools/datasets/neu.py takes them
from anywhere. Sized for one GPU.
"""
work_dir = 'work_dirs/neu_steel'
stages = [
    dict(name='pretrain', config='configs/pretrain/mae_vit-small-p16_neu.py'),
    dict(name='classify', config='configs/classification/vit-small_neu.py', init_from='pretrain'),
    dict(name='detect', config='configs/detection/vitdet_faster-rcnn_vit-small_neu.py', init_from='pretrain'),
    dict(name='segment', config='configs/segmentation/upernet_vit-small_neu.py', init_from='pretrain'),
]
