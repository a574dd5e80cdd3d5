"""ViTDet Mask R-CNN with MAE's ViT-H/14 on LVIS v1: detectron2's recipe. The patch filters are resized from 14 to 16.

    bash tools/dist_train.sh configs/detection/vitdet_mask-rcnn_vit-huge_lvis.py 8 --fit-batch accumulate

100 epochs at batch 64, at half the learning rate of B and L; norms and positions decay too. Needs the package ``lvis``.
Published: 49.1 box AP, 46.0 mask AP (detectron2's projects/ViTDet/README.md; seeds differ by about 0.3).
"""
_base_ = ['./vitdet_mask-rcnn_vit-base_lvis.py', '../_base_/models/vit-huge.py']
recipe = dict(name='vitdet/mask-rcnn/huge/lvis')
model = dict(backbone=dict(**_base_.vitdet_huge, drop_path_rate=0.4), neck=dict(in_channels=1280))
optim_wrapper = dict(optimizer=dict(lr=1e-4), paramwise_cfg=dict(layer_decay_rate=0.9, no_decay=()))
