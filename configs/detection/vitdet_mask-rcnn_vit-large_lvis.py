"""ViTDet Mask R-CNN with MAE's ViT-L/16 on LVIS v1: detectron2's recipe. Needs the package ``lvis``.

    bash tools/dist_train.sh configs/detection/vitdet_mask-rcnn_vit-large_lvis.py 8 --fit-batch accumulate

100 epochs at batch 64. Published: 46.1 box AP, 43.6 mask AP (detectron2's projects/ViTDet/README.md; seeds differ by
about 0.3).
"""
_base_ = ['./vitdet_mask-rcnn_vit-base_lvis.py', '../_base_/models/vit-large.py']
recipe = dict(name='vitdet/mask-rcnn/large/lvis')
model = dict(backbone=dict(**_base_.vitdet_large, drop_path_rate=0.4), neck=dict(in_channels=1024))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
